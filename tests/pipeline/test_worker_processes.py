"""Two worker processes write the same records as one worker in memory."""

import os

import apache_beam as beam
import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.schema import SPLITS
from pipeline.datasets import load_spec
from pipeline.transforms.encode import to_example
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.toy_datasets import write_clusters

DATA = DataConfig(max_history=5)
# Small spans of the files, so that there is work for both processes.
SPAN = 4000


def _lines(spec, folder, out, *options):
    """Returns `[split, process, serialized record]` of every record."""

    # A function inside a function is sent to the workers, which cannot import the tests.
    def line(record, split):
        return f"{split} {os.getpid()} {to_example(record, spec.features).hex()}"

    with beam.Pipeline(argv=["--runner=FnApiRunner", *options]) as pipeline:
        records = pipeline | UserRecords(spec, folder, DATA, SPAN)
        lines = [records[split] | split >> beam.Map(line, split) for split in SPLITS]
        _ = lines | beam.Flatten() | beam.io.WriteToText(str(out))
    parts = [path.read_text().splitlines() for path in out.parent.glob(f"{out.name}*")]
    return [line.split() for line in sum(parts, [])]


@pytest.mark.slow
def test_two_worker_processes_write_the_bytes_of_one(tmp_path):
    folder = tmp_path / "raw"
    spec = load_spec(write_clusters(folder))
    one = _lines(spec, folder, tmp_path / "one")
    two = _lines(
        spec,
        folder,
        tmp_path / "two",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    )
    assert {process for _, process, _ in one} == {str(os.getpid())}
    assert len({process for _, process, _ in two} - {str(os.getpid())}) == 2
    records = [sorted((split, record) for split, _, record in lines) for lines in (one, two)]
    assert records[0] == records[1] and len(records[0]) == 240

"""The records of a user do not depend on who makes them: one worker in memory, or two processes."""

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
# Many spans, so that there is work for both.
SPAN = 4000


def _lines(spec, folder, out, *options):
    """Lines of split, process and serialized record."""

    # Within the function, so that it is sent to the workers, which know no tests.
    def line(record, split):
        return f"{split} {os.getpid()} {to_example(record, spec.features).hex()}"

    with beam.Pipeline(argv=["--runner=FnApiRunner", *options]) as pipeline:
        records = pipeline | UserRecords(spec, folder, DATA, SPAN)
        lines = [records[split] | split >> beam.Map(line, split) for split in SPLITS]
        _ = lines | beam.Flatten() | beam.io.WriteToText(str(out))
    found = [path.read_text().splitlines() for path in out.parent.glob(f"{out.name}*")]
    return [line.split() for line in sum(found, [])]


@pytest.mark.slow
def test_two_worker_processes_make_the_bytes_that_one_makes(tmp_path):
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
    made = [sorted((split, record) for split, _, record in lines) for lines in (one, two)]
    assert made[0] == made[1] and len(made[0]) == 240

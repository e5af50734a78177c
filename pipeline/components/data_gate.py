"""The component that stops a run whose data cannot be trained on, before Transform."""

import logging
import os

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.experimental import simple_artifacts
from tfx.utils import io_utils

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import TRAIN
from pipeline.components import curated, rejects
from pipeline.components.anomalies import judge
from pipeline.components.example_gen import rejects_folder

REPORT_FILE = "REPORT.txt"
ACCEPTED_FILE = "train.pb"


@component
def DataGate(  # noqa: N802
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    report: OutputArtifact[simple_artifacts.File],
    accepted: OutputArtifact[simple_artifacts.Statistics],
    max_rejects: Parameter[int],
    sources: Parameter[str],
    schema: Parameter[str] = "",
    before: InputArtifact[simple_artifacts.Statistics] = None,
) -> None:
    """Writes `REPORT.txt`, a line for each departure from the schema that need not stop the run.

    Args:
        examples: the user records, beside which their malformed rows lie.
        statistics: of every split, of StatisticsGen.
        anomalies: of ExampleValidator.
        report: the folder that is written.
        accepted: the folder that the statistics of the train split are written to.
        max_rejects: malformed rows that do not stop the run.
        sources: digest of the code that judges, for the cache key alone.
        schema: text of a curated schema; without one ExampleValidator's verdicts are taken.
        before: what this component last accepted, to find drift.

    Raises:
        InputError: too many malformed rows, or the first departure that blocks; the log has all of
            them.
    """
    folder = rejects_folder(examples)
    rejected = rejects.read(folder)
    rejects.check(rejected, max_rejects, folder)
    found = _by_split(statistics, "FeatureStats.pb", statistics_pb2.DatasetFeatureStatisticsList)
    splits = {split: listed.datasets[0] for split, listed in found if listed.datasets}
    if schema:
        known = curated.anomalies(schema, splits, before and _read(before))
    else:
        known = dict(_by_split(anomalies, "SchemaDiff.pb", anomalies_pb2.Anomalies))
    blocking, reports = judge(splits, known, bool(schema))
    for finding in (*blocking, *reports):
        logging.warning("%s: %s", "Blocked" if finding in blocking else "Told", finding)
    if blocking:
        first, more = blocking[0], len(blocking) - 1
        also = f" ({more} more in the log)" if more else ""
        raise InputError(first.place, f"{first.rule}{also}", first.mend)
    lines = [*rejects.report(rejected), *map(str, reports)] or ["no anomalies"]
    io_utils.write_string_file(os.path.join(report.uri, REPORT_FILE), "\n".join(lines) + "\n")
    io_utils.write_bytes_file(
        os.path.join(accepted.uri, ACCEPTED_FILE), splits[TRAIN].SerializeToString()
    )


def _read(accepted):
    path = os.path.join(accepted.uri, ACCEPTED_FILE)
    return statistics_pb2.DatasetFeatureStatistics.FromString(io_utils.read_bytes_file(path))


def _by_split(artifact, name, message):
    """Pairs of a split of `artifact` and what its file `name` holds, as a `message`."""
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = os.path.join(artifact_utils.get_split_uri([artifact], split), name)
        yield split, message.FromString(io_utils.read_bytes_file(path))

"""Defines the component that stops a run if its data cannot be trained on, before Transform."""

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
    """Stops the run, or writes `REPORT.txt` and the statistics for the next run's comparison.

    The report has one line for each kind of malformed row and for each anomaly that does not stop
    the run.

    Args:
        examples: the user records; their folder also holds the malformed rows.
        statistics: statistics of every split, from StatisticsGen.
        anomalies: anomalies that ExampleValidator found.
        report: the folder of the report, which is written.
        accepted: the folder of the statistics of the train split, which is written.
        max_rejects: the largest number of malformed rows with which the run continues.
        sources: digest of the code of this component, used only in the cache key.
        schema: text of a curated schema, with which every anomaly stops the run. Without one the
            anomalies of ExampleValidator count, and few of them stop it.
        before: the `accepted` output of the last run that passed. With a curated schema, drift
            against it is an anomaly.

    Raises:
        InputError: there are too many malformed rows, or an anomaly stops the run. The error names
            the first anomaly, the log all of them.
    """
    malformed = rejects.summarize(rejects.rejects_folder(examples))
    malformed.check(max_rejects)
    protos = _by_split(statistics, "FeatureStats.pb", statistics_pb2.DatasetFeatureStatisticsList)
    # TFDV writes one dataset per split.
    splits = {split: proto.datasets[0] for split, proto in protos if proto.datasets}
    if schema:
        by_split = curated.anomalies(schema, splits, before and _read(before))
    else:
        by_split = dict(_by_split(anomalies, "SchemaDiff.pb", anomalies_pb2.Anomalies))
    blocking, reports = judge(splits, by_split, bool(schema))
    for finding in (*blocking, *reports):
        logging.warning("%s: %s", "Blocked" if finding in blocking else "Reported", finding)
    if blocking:
        first, more = blocking[0], len(blocking) - 1
        also = f" ({more} more in the log)" if more else ""
        raise InputError(first.place, f"{first.rule}{also}", first.fix)
    lines = [*malformed.report(), *map(str, reports)] or ["no anomalies"]
    io_utils.write_string_file(os.path.join(report.uri, REPORT_FILE), "\n".join(lines) + "\n")
    io_utils.write_bytes_file(
        os.path.join(accepted.uri, ACCEPTED_FILE), splits[TRAIN].SerializeToString()
    )


def _read(accepted):
    path = os.path.join(accepted.uri, ACCEPTED_FILE)
    return statistics_pb2.DatasetFeatureStatistics.FromString(io_utils.read_bytes_file(path))


def _by_split(artifact, name, message):
    """Yields each split of `artifact` with the `message` that its file `name` holds."""
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = os.path.join(artifact_utils.get_split_uri([artifact], split), name)
        yield split, message.FromString(io_utils.read_bytes_file(path))

"""Passes a curated schema on as an artifact, and finds how the data depart from it."""

import os
from collections.abc import Mapping

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from ml_metadata import MetadataStore
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact, standard_artifacts
from tfx.utils import io_utils

from cmclrec_tf.schema import TEST, TRAIN

SCHEMA_FILE = "schema.pbtxt"


@component
def CuratedSchema(  # noqa: N802
    text: Parameter[str],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Writes a schema to a file, as SchemaGen does.

    Args:
        text: the text of a `Schema` of TensorFlow Metadata; all of it is in the cache key.
        schema: the folder that is written.
    """
    io_utils.write_string_file(os.path.join(schema.uri, SCHEMA_FILE), text)


class NewestIfAny(ResolverStrategy):
    """Resolves each input to its newest artifact, or to none if there is none."""

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns `{key: [newest artifact]}`; a list is empty if there is no artifact.

        Args:
            store: the store of ML Metadata.
            input_dict: all artifacts by input.
        """
        return {
            key: sorted(artifacts, key=lambda artifact: artifact.id)[-1:]
            for key, artifacts in input_dict.items()
        }


def anomalies(
    text: str,
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    accepted: statistics_pb2.DatasetFeatureStatistics | None = None,
) -> dict[str, anomalies_pb2.Anomalies]:
    """Finds how every split departs from a curated schema.

    A split is validated in the environment of its name in capitals, if the schema has one. Without
    one the test split is not validated, since its cold users have no history. The comparators of
    the schema apply to the train split: drift compares it with the train split that was accepted
    last, skew with the test split.

    Args:
        text: the text of the schema.
        statistics: statistics by split.
        accepted: statistics of the train split that was accepted last, if any.

    Returns:
        Anomalies by split.
    """
    schema = text_format.Parse(text, schema_pb2.Schema())
    environments = set(schema.default_environment)
    by_split = {}
    for split, dataset in statistics.items():
        environment = split.upper() if split.upper() in environments else None
        if split == TEST and not environment:
            continue
        train = split == TRAIN
        by_split[split] = tfdv.validate_statistics(
            _as_list(dataset),
            schema,
            environment=environment,
            previous_statistics=_as_list(accepted) if train and accepted else None,
            serving_statistics=_as_list(statistics[TEST]) if train and TEST in statistics else None,
        )
        # Records have every field in every split; TFDV takes a field that is not in this
        # environment for a new column.
        for feature in schema.feature:
            if environment in feature.not_in_environment:
                by_split[split].anomaly_info.pop(feature.name, None)
    return by_split


def _as_list(dataset):
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])

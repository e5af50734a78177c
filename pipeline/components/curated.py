"""A schema that somebody keeps by hand: a component that hands it on, and what departs from it."""

import os

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from cmclrec_tf.schema import TEST, TRAIN

SCHEMA_FILE = "schema.pbtxt"


@component
def CuratedSchema(  # noqa: N802
    text: Parameter[str],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Writes a schema down as SchemaGen does.

    Args:
        text: of a `Schema` of TensorFlow Metadata. All of it is in the cache key.
        schema: the folder that is written.
    """
    io_utils.write_string_file(os.path.join(schema.uri, SCHEMA_FILE), text)


class NewestIfAny(ResolverStrategy):
    """The newest artifact of each input; there may be none."""

    def resolve_artifacts(self, store, input_dict):
        """`{key: [the newest]}`, or an empty list.

        Args:
            store: of ML Metadata.
            input_dict: `{key: artifacts}`.
        """
        return {
            key: sorted(artifacts, key=lambda artifact: artifact.id)[-1:]
            for key, artifacts in input_dict.items()
        }


def anomalies(text, statistics, accepted=None):
    """How every split departs from a curated schema.

    A split is validated in the environment that is named as it is, in capitals, where the schema
    has one. Without one of its own the test split is left out: its cold users have no history. The
    comparators of the schema look at the train split: drift, against the train split that was last
    accepted; skew, against the test split.

    Args:
        text: of the schema.
        statistics: `{split: DatasetFeatureStatistics}`.
        accepted: the same of the train split that was last accepted, or None.

    Returns:
        `{split: Anomalies}`.
    """
    schema = text_format.Parse(text, schema_pb2.Schema())
    environments = set(schema.default_environment)
    found = {}
    for split, dataset in statistics.items():
        environment = split.upper() if split.upper() in environments else None
        if split == TEST and not environment:
            continue
        train = split == TRAIN
        found[split] = tfdv.validate_statistics(
            _listed(dataset),
            schema,
            environment=environment,
            previous_statistics=_listed(accepted) if train and accepted else None,
            serving_statistics=_listed(statistics[TEST]) if train and TEST in statistics else None,
        )
        # Records have every field everywhere, which for TFDV is then a new column.
        for feature in schema.feature:
            if environment in feature.not_in_environment:
                found[split].anomaly_info.pop(feature.name, None)
    return found


def _listed(dataset):
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])

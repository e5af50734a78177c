"""Wires the data half of the pipeline: raw files to transformed user records."""

import dataclasses

from tfx.components import ExampleValidator, SchemaGen, StatisticsGen, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata, pipeline
from tfx.proto import transform_pb2
from tfx.types import Channel
from tfx.types.experimental import simple_artifacts

from cmclrec_tf.config import Config
from cmclrec_tf.schema import SPLITS, TEST, TRAIN, VAL
from pipeline import preprocessing
from pipeline.components.curated import CuratedSchema, NewestIfAny
from pipeline.components.data_gate import DataGate
from pipeline.components.example_gen import example_gen
from pipeline.configs import Folders
from pipeline.datasets import DatasetSpec, schema_text
from pipeline.metadata import code_digests
from pipeline.storage.folders import AnyPath

PREPROCESSING_FN = "pipeline.preprocessing.preprocessing_fn"
ACCEPTED = "AcceptedData"


@dataclasses.dataclass(frozen=True)
class DataComponents:
    """The components of the data half, in the order in which they run.

    Attributes:
        example_gen: reads the raw files and writes user records, split into train, val and test.
        statistics_gen: computes statistics of every split.
        schema_gen: infers the schema from the train split, or takes a curated one.
        example_validator: compares the train and val split with the schema.
        data_gate: stops the run when the data cannot be trained on.
        transform: maps strings to ids.
        accepted: finds the data that were accepted last; None when nothing is compared with them.
    """

    example_gen: BaseNode
    statistics_gen: BaseNode
    schema_gen: BaseNode
    example_validator: BaseNode
    data_gate: BaseNode
    transform: BaseNode
    accepted: BaseNode | None = None

    @property
    def all(self) -> list[BaseNode]:
        """The components as a list."""
        nodes = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return [node for node in nodes if node is not None]


def data_components(
    spec: DatasetSpec,
    data_dir: AnyPath,
    config: Config,
    transform_digest: str,
    gate_digest: str,
    compare_drift: bool = True,
) -> DataComponents:
    """Wires the components from ExampleGen to Transform.

    Args:
        spec: the dataset's spec. Its curated schema, if there is one, replaces the inferred one.
        data_dir: folder of the raw files.
        config: the config of the run; only `data` is used.
        transform_digest: digest of the code that maps strings to ids.
        gate_digest: digest of the code that judges anomalies.
        compare_drift: whether a curated schema may compare the data with those accepted last.
    """
    examples = example_gen(spec, data_dir, config.data)
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    text = schema_text(spec, data_dir)
    schema = _schema(statistics, text)
    accepted = _accepted(statistics) if text and compare_drift else None
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        # Cold test users have no history, which is no anomaly.
        exclude_splits=[TEST],
    )
    gate = DataGate(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=validator.outputs["anomalies"],
        max_rejects=spec.max_rejects,
        sources=gate_digest,
        schema=text,
        before=accepted.outputs["statistics"] if accepted else None,
    )
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN], transform=list(SPLITS)),
        custom_config=preprocessing.custom_config(spec, transform_digest),
        disable_statistics=True,
    )
    transform.add_upstream_node(gate)
    return DataComponents(examples, statistics, schema, validator, gate, transform, accepted)


def data_pipeline(
    spec: DatasetSpec, data_dir: AnyPath, config: Config, folders: Folders
) -> pipeline.Pipeline:
    """Returns a pipeline of the data half alone.

    It has the name and the metadata of the whole pipeline, so that both share one cache.

    Args:
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the config of the run; only `data` is used.
        folders: where the pipeline writes.
    """
    components = data_components(
        spec,
        data_dir,
        config,
        transform_digest=code_digests.digest(code_digests.TRANSFORM),
        gate_digest=code_digests.digest(code_digests.GATE),
    )
    return pipeline.Pipeline(
        pipeline_name=folders.pipeline_name,
        pipeline_root=str(folders.pipeline),
        components=components.all,
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(folders.metadata)
        ),
    )


def _schema(statistics: BaseNode, text: str) -> BaseNode:
    """Returns the component that provides the schema, a curated one if `text` is not empty."""
    if text:
        return CuratedSchema(text=text).with_id("SchemaGen")
    return SchemaGen(
        statistics=statistics.outputs["statistics"],
        # Else a length that all train users happen to share becomes a rule for the other splits.
        infer_feature_shape=False,
        exclude_splits=[VAL, TEST],
    )


def _accepted(statistics: BaseNode) -> BaseNode:
    """Returns the node that finds the statistics that DataGate accepted last."""
    resolver = Resolver(
        strategy_class=NewestIfAny,
        statistics=Channel(type=simple_artifacts.Statistics),
    ).with_id(ACCEPTED)
    # It runs first, so that it cannot find what this run accepts.
    statistics.add_upstream_node(resolver)
    return resolver

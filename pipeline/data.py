"""The data half of the pipeline: raw files to transformed user records."""

import dataclasses

from tfx.components import ExampleValidator, SchemaGen, StatisticsGen, Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata, pipeline
from tfx.proto import transform_pb2
from tfx.types import Channel
from tfx.types.experimental import simple_artifacts

from cmclrec_tf.schema import SPLITS, TEST, TRAIN, VAL
from pipeline import configs, preprocessing
from pipeline.components.curated import CuratedSchema, NewestIfAny
from pipeline.components.data_gate import DataGate
from pipeline.components.example_gen import example_gen
from pipeline.datasets import schema_text

PREPROCESSING_FN = "pipeline.preprocessing.preprocessing_fn"
ACCEPTED = "AcceptedData"


@dataclasses.dataclass(frozen=True)
class DataComponents:
    """The components, in the order in which they run."""

    example_gen: BaseNode
    statistics_gen: BaseNode
    schema_gen: BaseNode
    example_validator: BaseNode
    data_gate: BaseNode
    transform: BaseNode
    accepted: BaseNode | None = None

    @property
    def all(self):
        nodes = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return [node for node in nodes if node is not None]


def data_components(spec, data_dir, config, sources, gate_sources, compare_drift=True):
    """Wires ExampleGen, StatisticsGen, SchemaGen, ExampleValidator, DataGate and Transform.

    The schema is that of the train split, or the one that the spec names. The val split is
    validated against it. The test split is not: its cold users have no history, which is no
    anomaly.
    DataGate looks at the statistics of all splits, and Transform waits for it.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        config: `Config`, of which `data` is used.
        sources: digest of the code that maps strings to ids.
        gate_sources: digest of the code that judges anomalies.
        compare_drift: whether a curated schema may compare with the data that were last accepted.

    Returns:
        `DataComponents`.
    """
    examples = example_gen(spec, data_dir, config.data)
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    text = schema_text(spec, data_dir)
    schema = _schema(statistics, text)
    accepted = _accepted(statistics) if text and compare_drift else None
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        exclude_splits=[TEST],
    )
    gate = DataGate(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        anomalies=validator.outputs["anomalies"],
        max_rejects=spec.max_rejects,
        sources=gate_sources,
        schema=text,
        before=accepted.outputs["statistics"] if accepted else None,
    )
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN], transform=list(SPLITS)),
        custom_config=preprocessing.custom_config(spec, sources),
        disable_statistics=True,
    )
    transform.add_upstream_node(gate)
    return DataComponents(examples, statistics, schema, validator, gate, transform, accepted)


def _schema(statistics, text):
    if text:
        return CuratedSchema(text=text).with_id("SchemaGen")
    return SchemaGen(
        statistics=statistics.outputs["statistics"],
        # A length that all train users happen to share must not become a rule for the others.
        infer_feature_shape=False,
        exclude_splits=[VAL, TEST],
    )


def _accepted(statistics):
    """The node that finds what DataGate accepted last; a curated schema may compare with it."""
    found = Resolver(
        strategy_class=NewestIfAny,
        statistics=Channel(type=simple_artifacts.Statistics),
    ).with_id(ACCEPTED)
    # What is accepted in this run is not what came before.
    statistics.add_upstream_node(found)
    return found


def data_pipeline(spec, data_dir, config, folders):
    """A pipeline of the data half alone.

    Under the name of the whole pipeline and with its metadata, so that either finds what the other
    has cached.

    Args:
        spec, data_dir, config: see `data_components`.
        folders: `configs.Folders`.

    Returns:
        `tfx.orchestration.pipeline.Pipeline`.
    """
    digests = map(configs.sources, (configs.TRANSFORM_CODE, configs.GATE_CODE))
    return pipeline.Pipeline(
        pipeline_name=folders.pipeline_name,
        pipeline_root=str(folders.pipeline),
        components=data_components(spec, data_dir, config, *digests).all,
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(folders.metadata)
        ),
    )

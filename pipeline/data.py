"""The data half of the pipeline: raw files to transformed user records."""

import dataclasses

from tfx.components import ExampleValidator, SchemaGen, StatisticsGen, Transform
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration import metadata, pipeline
from tfx.proto import transform_pb2

from cmclrec_tf.schema import SPLITS, TEST, TRAIN, VAL
from pipeline import configs, preprocessing
from pipeline.components.data_gate import DataGate
from pipeline.components.example_gen import example_gen

PREPROCESSING_FN = "pipeline.preprocessing.preprocessing_fn"


@dataclasses.dataclass(frozen=True)
class DataComponents:
    """The components, in the order in which they run."""

    example_gen: BaseComponent
    statistics_gen: BaseComponent
    schema_gen: BaseComponent
    example_validator: BaseComponent
    data_gate: BaseComponent
    transform: BaseComponent

    @property
    def all(self):
        return [getattr(self, field.name) for field in dataclasses.fields(self)]


def data_components(spec, data_dir, config, sources, gate_sources):
    """Wires ExampleGen, StatisticsGen, SchemaGen, ExampleValidator, DataGate and Transform.

    The schema is that of the train split, and the val split is validated against it. The test
    split is not: its cold users have no history, which is no anomaly.
    DataGate looks at the statistics of all splits, and Transform waits for it.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        config: `Config`, of which `data` is used.
        sources: digest of the code that maps strings to ids.
        gate_sources: digest of the code that judges anomalies.

    Returns:
        `DataComponents`.
    """
    examples = example_gen(spec, data_dir, config.data)
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    schema = SchemaGen(
        statistics=statistics.outputs["statistics"],
        # A length that all train users happen to share must not become a rule for the others.
        infer_feature_shape=False,
        exclude_splits=[VAL, TEST],
    )
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
    )
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN], transform=list(SPLITS)),
        custom_config=preprocessing.custom_config(spec.features, sources),
        disable_statistics=True,
    )
    transform.add_upstream_node(gate)
    return DataComponents(examples, statistics, schema, validator, gate, transform)


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

"""Which blessed model a new model is compared with."""

import copy
import dataclasses
import datetime
import json

import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature

pytestmark = pytest.mark.pipeline

FEATURES = (Feature("job"), Feature("age", "numeric"))
LONGEST = 50


def _settings(**changes):
    from pipeline.trainer import custom_config

    values = custom_config(Config.from_dict(changes), FEATURES, "toy", sources="")
    return json.loads(json.dumps(values))


class Store:
    """The ML Metadata of a pipeline, in the form that TFX writes."""

    def __init__(self, path):
        from ml_metadata import metadata_store
        from ml_metadata.proto import metadata_store_pb2 as proto

        config = proto.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.path = path
        self.store = metadata_store.MetadataStore(config)
        self.models, self.blessings, self.infra = [], [], []
        self._proto = proto
        self._nodes = self.store.put_context_type(proto.ContextType(name="node"))

    def model(self, settings=None, blessed=None, validated=None):
        """Adds a trained model, with the given verdicts."""
        from tfx.types import standard_artifacts

        model = self.saved(standard_artifacts.Model())
        properties = {"custom_config": json.dumps(settings or _settings())}
        self.execution("Trainer", properties, outputs={"model": model})
        self.models.append(model)
        if blessed is not None:
            verdict = standard_artifacts.ModelBlessing()
            verdict.set_int_custom_property("blessed", int(blessed))
            verdict.set_int_custom_property("current_model_id", model.id)
            self.blessings.append(self.saved(verdict))
        if validated is not None:
            verdict = standard_artifacts.InfraBlessing()
            verdict.set_int_custom_property("blessed", int(validated))
            self.infra.append(self.saved(verdict))
            outputs = {"blessing": self.infra[-1]}
            self.execution("ServingValidator", inputs={"model": model}, outputs=outputs)
        return model

    def before(self, candidate):
        """Returns the model that the candidate is compared with, or None."""
        from pipeline.components.blessed_before import BlessedBefore

        inputs = {
            "candidate": [candidate],
            "model": self.models,
            "model_blessing": self.blessings,
            "infra_blessing": self.infra,
        }
        outputs = BlessedBefore(longest=LONGEST).resolve_artifacts(self.store, copy.copy(inputs))
        assert set(outputs) == set(inputs)
        return outputs["model"][0] if outputs["model"] else None

    def saved(self, artifact):
        artifact.uri = f"model-{len(self.models)}"
        artifact.type_id = self.store.put_artifact_type(
            artifact.artifact_type, can_add_fields=True, can_omit_fields=True
        )
        (artifact.id,) = self.store.put_artifacts([artifact.mlmd_artifact])
        return artifact

    def execution(self, name, properties=None, inputs=None, outputs=None):
        """Adds an execution of the component `name`; artifacts by their keys."""
        proto = self._proto
        execution = proto.Execution(
            type_id=self.store.put_execution_type(proto.ExecutionType(name=name))
        )
        for key, value in (properties or {}).items():
            execution.custom_properties[key].string_value = value
        context = proto.Context(type_id=self._nodes, name=f"pipeline.{name}")
        existing = self.store.get_context_by_type_and_name("node", context.name)
        events = []
        for kind, artifacts in ((proto.Event.INPUT, inputs), (proto.Event.OUTPUT, outputs)):
            for key, artifact in (artifacts or {}).items():
                event = proto.Event(type=kind)
                event.path.steps.add().key = key
                events.append((artifact.mlmd_artifact, event))
        self.store.put_execution(execution, events, [existing or context])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "metadata.db")


def test_the_first_model_is_compared_with_none(store):
    assert store.before(store.model()) is None


def test_it_is_the_newest_one_that_both_gates_blessed(store):
    store.model(blessed=True, validated=True)
    second = store.model(blessed=True, validated=True)
    store.model(blessed=False, validated=True)
    store.model(blessed=True, validated=False)
    store.model(validated=True)
    assert store.before(store.model()).id == second.id


def test_a_repeated_run_finds_the_same_model(store):
    first = store.model(blessed=True, validated=True)
    second = store.model(blessed=True, validated=True)
    store.model(blessed=True, validated=True)
    assert store.before(second).id == first.id
    assert store.before(first) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"salt": "1"}}, "data.salt='1' instead of '0'"),
        ({"data": {"test_share": 0.1}}, "data.test_share=0.1 instead of 0.3"),
        ({"serve": {"list_length": 20}}, "serve.list_length=20 instead of at least 50"),
    ],
)
def test_a_model_that_cannot_be_compared_is_named_and_passed_over(store, capsys, changes, reason):
    older = store.model(blessed=True, validated=True)
    other = store.model(_settings(**changes), blessed=True, validated=True)
    assert store.before(store.model()).id == older.id
    message = capsys.readouterr().err
    assert message == f"The blessed model {other.uri} cannot be compared with: it has {reason}\n"


def test_a_model_of_other_features_cannot_be_compared(store, capsys):
    settings = _settings()
    settings["features"] = [dataclasses.asdict(Feature("job"))]
    store.model(settings, blessed=True, validated=True)
    assert store.before(store.model()) is None
    assert "it has other user features\n" in capsys.readouterr().err


def test_the_lineage_of_a_model_leaves_out_the_model_that_it_was_compared_with(store):
    """Even if the other one was the last to be trained, from the cache."""
    from tfx.types import standard_artifacts

    from pipeline.metadata.lineage import Lineage

    first, second = store.model(_settings(seed=1)), store.model(_settings(seed=2))
    properties = {"custom_config": json.dumps(_settings(seed=1))}
    store.execution("Trainer", properties, outputs={"model": first})
    blessing = store.saved(standard_artifacts.ModelBlessing())
    inputs = {"model": second, "baseline_model": first}
    store.execution("Evaluator", inputs=inputs, outputs={"blessing": blessing})
    pushed = standard_artifacts.PushedModel()
    pushed.set_string_custom_property("pushed_destination", "/serving/1")
    inputs = {"model": second, "model_blessing": blessing}
    store.execution("Pusher", inputs=inputs, outputs={"pushed_model": store.saved(pushed)})
    steps = {step.component: step for step in Lineage(store.path, "pipeline").origins("/serving/1")}
    assert set(steps) == {"Trainer", "Evaluator", "Pusher"}
    assert steps["Trainer"].config.seed == 2


def test_lineage_reads_a_config_whose_backbone_is_not_imported():
    from cmclrec_tf.config.sections import BACKBONES
    from pipeline.metadata.lineage import Step

    values = {**Config().to_dict(), "model": {"backbone": "elsewhere"}}
    properties = {"custom_config": json.dumps({"config": values})}
    step = Step("Trainer", "complete", datetime.datetime.now(), 1.0, {}, properties)
    assert step.config.model.backbone == "elsewhere"
    assert "elsewhere" not in BACKBONES
    with pytest.raises(InputError, match="backbone='elsewhere': it must be one of"):
        Config.from_dict(values)

"""Which blessed model a candidate is compared with."""

import copy
import dataclasses
import json

import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.schema import Feature

pytestmark = pytest.mark.pipeline

FEATURES = (Feature("job"), Feature("age", "numeric"))
LONGEST = 50


def _settings(**changes):
    from pipeline.trainer import custom_config

    values = custom_config(Config.from_dict(changes), FEATURES, "toy", sources="")
    return json.loads(json.dumps(values))


class Past:
    """ML Metadata of a pipeline, written as TFX writes it."""

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
        """A model that was trained and, where a verdict is given, judged."""
        from tfx.types import standard_artifacts

        model = self.saved(standard_artifacts.Model())
        told = {"custom_config": json.dumps(settings or _settings())}
        self.execution("Trainer", told, outputs={"model": model})
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
            left = {"blessing": self.infra[-1]}
            self.execution("ServingValidator", inputs={"model": model}, outputs=left)
        return model

    def before(self, candidate):
        """The model that the candidate is compared with, or None."""
        from pipeline.components.blessed_before import BlessedBefore

        given = {
            "candidate": [candidate],
            "model": self.models,
            "model_blessing": self.blessings,
            "infra_blessing": self.infra,
        }
        found = BlessedBefore(longest=LONGEST).resolve_artifacts(self.store, copy.copy(given))
        assert set(found) == set(given)
        return found["model"][0] if found["model"] else None

    def saved(self, artifact):
        artifact.uri = f"model-{len(self.models)}"
        artifact.type_id = self.store.put_artifact_type(
            artifact.artifact_type, can_add_fields=True, can_omit_fields=True
        )
        (artifact.id,) = self.store.put_artifacts([artifact.mlmd_artifact])
        return artifact

    def execution(self, name, properties=None, inputs=None, outputs=None):
        """An execution of the component `name`; artifacts by their keys."""
        proto = self._proto
        execution = proto.Execution(
            type_id=self.store.put_execution_type(proto.ExecutionType(name=name))
        )
        for key, value in (properties or {}).items():
            execution.custom_properties[key].string_value = value
        context = proto.Context(type_id=self._nodes, name=f"pipeline.{name}")
        known = self.store.get_context_by_type_and_name("node", context.name)
        events = []
        for kind, artifacts in ((proto.Event.INPUT, inputs), (proto.Event.OUTPUT, outputs)):
            for key, artifact in (artifacts or {}).items():
                event = proto.Event(type=kind)
                event.path.steps.add().key = key
                events.append((artifact.mlmd_artifact, event))
        self.store.put_execution(execution, events, [known or context])


@pytest.fixture
def past(tmp_path):
    return Past(tmp_path / "metadata.db")


def test_the_first_model_is_compared_with_none(past):
    assert past.before(past.model()) is None


def test_it_is_the_newest_that_both_gates_have_blessed(past):
    past.model(blessed=True, validated=True)
    second = past.model(blessed=True, validated=True)
    past.model(blessed=False, validated=True)
    past.model(blessed=True, validated=False)
    past.model(validated=True)
    assert past.before(past.model()).id == second.id


def test_a_repeated_run_finds_what_it_found(past):
    first = past.model(blessed=True, validated=True)
    second = past.model(blessed=True, validated=True)
    past.model(blessed=True, validated=True)
    assert past.before(second).id == first.id
    assert past.before(first) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"salt": "1"}}, "data.salt='1' instead of '0'"),
        ({"data": {"test_share": 0.1}}, "data.test_share=0.1 instead of 0.3"),
        ({"serve": {"list_length": 20}}, "serve.list_length=20 instead of at least 50"),
    ],
)
def test_a_model_that_cannot_be_compared_is_told_of_and_passed_over(past, capsys, changes, said):
    older = past.model(blessed=True, validated=True)
    other = past.model(_settings(**changes), blessed=True, validated=True)
    assert past.before(past.model()).id == older.id
    told = capsys.readouterr().err
    assert told == f"The blessed model {other.uri} cannot be compared with: it has {said}\n"


def test_nor_can_one_of_other_features(past, capsys):
    settings = _settings()
    settings["features"] = [dataclasses.asdict(Feature("job"))]
    past.model(settings, blessed=True, validated=True)
    assert past.before(past.model()) is None
    assert "it has other user features\n" in capsys.readouterr().err


def test_a_model_does_not_come_from_the_one_that_it_was_compared_with(past):
    """Not even if that one was the last to be trained, out of the cache."""
    from tfx.types import standard_artifacts

    from pipeline.metadata.lineage import Lineage

    first, second = past.model(_settings(seed=1)), past.model(_settings(seed=2))
    told = {"custom_config": json.dumps(_settings(seed=1))}
    past.execution("Trainer", told, outputs={"model": first})
    blessing = past.saved(standard_artifacts.ModelBlessing())
    judged = {"model": second, "baseline_model": first}
    past.execution("Evaluator", inputs=judged, outputs={"blessing": blessing})
    pushed = standard_artifacts.PushedModel()
    pushed.set_string_custom_property("pushed_destination", "/serving/1")
    given = {"model": second, "model_blessing": blessing}
    past.execution("Pusher", inputs=given, outputs={"pushed_model": past.saved(pushed)})
    steps = {step.component: step for step in Lineage(past.path, "pipeline").origins("/serving/1")}
    assert set(steps) == {"Trainer", "Evaluator", "Pusher"}
    assert steps["Trainer"].config.seed == 2

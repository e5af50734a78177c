"""From raw files to a pushed model, and a model with a broken cold path that is not pushed."""

import dataclasses
import json
import pathlib
import shutil
import types

import numpy as np
import pytest

from cmclrec_tf.data import vocabulary
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import metrics
from tests.pipeline.toy_datasets import cold_users

pytestmark = pytest.mark.pipeline

DATA_HALF = (
    *("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator"),
    *("DataGate", "Transform"),
)
GATE_HALF = ("Trainer", "Evaluator", "ServingValidator", "ModelCard", "Pusher")


@pytest.fixture(scope="module")
def served(first_run):
    """The raw test records, and the pushed model's answers to them."""
    from pipeline.storage.records import parse, read
    from serving.c_api.session import SavedModelSession

    records = list(read(first_run.test_files))
    with SavedModelSession(first_run.pushed_version) as session:
        answer = session.run("serving_default", {"examples": np.array(records, object)})
    return [parse(record) for record in records], answer


@pytest.fixture(scope="module")
def broken_run(first_run, setting):
    """A run on the same data, with a model whose cold path was broken after training."""
    return setting.run(run_fn="tests.pipeline.broken_cold.run_fn")


def _versions(run):
    return sorted(path.name for path in run.folders.serving.iterdir())


def test_every_component_ran_and_the_model_is_pushed(first_run):
    for component in DATA_HALF + GATE_HALF:
        assert not first_run.outputs.was_cached(component), component
    assert first_run.reasons == []
    assert first_run.pushed_version.name.isdigit()
    assert (first_run.pushed_version / "saved_model.pb").is_file()
    assert first_run.pushed_version.parent == first_run.folders.serving


def test_the_pushed_model_has_the_promised_signatures(first_run):
    from pipeline.components.serving_checks import SIGNATURES
    from serving.c_api.session import SavedModelSession

    features = {feature.name for feature in first_run.spec.features}
    with SavedModelSession(first_run.pushed_version) as session:
        assert set(session.signatures) >= set(SIGNATURES)
        assert set(session.signatures["cold"].inputs) == features | {"exclude"}
    assert (first_run.pushed_version / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_the_evaluation_is_of_the_served_lists(first_run, served):
    users, answer = served
    is_cold = np.array([user["segment"] == [b"cold"] for user in users])
    assert np.array_equal(np.asarray(answer["is_cold"]).reshape(-1), is_cold)
    lists = np.asarray(answer["item_ids"])
    hit, n_relevant = metrics.hits(lists, [user["target"] for user in users])
    for segment, rows in (("warm", ~is_cold), ("cold", is_cold), ("overall", is_cold | ~is_cold)):
        row = first_run.rows[segment]
        assert row["users"] == rows.sum() > 0
        for k in first_run.config.evaluate.ks:
            recall = metrics.recall(hit, n_relevant, k)[rows].mean()
            ndcg = metrics.ndcg(hit, n_relevant, k)[rows].mean()
            assert row[f"recall@{k}"] == pytest.approx(recall, abs=1e-6)
            assert row[f"ndcg@{k}"] == pytest.approx(ndcg, abs=1e-6)
            assert row[f"coverage@{k}"] == metrics.coverage(lists[rows], k)


def test_popularity_is_that_of_the_library(first_run):
    """The Evaluator's floors, on strings and in Beam, equal the baseline's, on ids."""
    from cmclrec_tf.baselines.popularity import Popularity
    from cmclrec_tf.evaluation import evaluate

    dataset, k = first_run.dataset(), first_run.config.evaluate.k
    for floor, events in (("popularity", "all"), ("popularity-last", "last")):
        rows = evaluate(Popularity(dataset, events), dataset, "test", ks=(k,)).rows
        for segment in ("warm", "cold", "overall"):
            for metric in (f"recall@{k}", f"ndcg@{k}", f"coverage@{k}"):
                value = first_run.floors[floor][segment][metric]
                assert value == pytest.approx(rows[segment][metric], abs=1e-6)
    assert first_run.warnings == []


def test_new_users_of_different_profiles_get_different_lists(served):
    users, answer = served
    lists = {
        tuple(row)
        for user, row in zip(users, np.asarray(answer["item_ids"]), strict=True)
        if user["segment"] == [b"cold"]
    }
    assert len(lists) > 1


def test_training_saw_neither_test_users_nor_their_items(first_run, served, setting):
    dataset = first_run.dataset()
    users, _ = served
    tested = {user["user_id"][0].decode() for user in users}
    assert tested == set(dataset.user_ids("test"))
    assert not tested & set(dataset.user_ids("train") + dataset.user_ids("val"))
    planted = [f"planted-{user}" for user in cold_users(setting.config.data)]
    raw = (setting.data_dir / "interactions.csv").read_text()
    assert len(planted) > 5 and all(f",{item}," in raw for item in planted)
    assert not set(planted) & set(vocabulary.read(dataset.vocabularies["items"]))
    properties = first_run.outputs._execution("Trainer").custom_properties
    assert json.loads(properties["train_args"].string_value)["splits"] == ["train"]
    assert json.loads(properties["eval_args"].string_value)["splits"] == ["val"]


@pytest.mark.slow
def test_a_broken_cold_path_is_not_pushed(first_run, broken_run):
    for component in DATA_HALF:
        assert broken_run.outputs.was_cached(component), component
    for component in GATE_HALF:
        assert not broken_run.outputs.was_cached(component), component
    assert broken_run.pushed_version is None
    assert any(
        reason.startswith("cold coverage@5 = 5 is below its bound 8")
        for reason in broken_run.reasons
    )
    assert not any(reason.startswith("warm") for reason in broken_run.reasons)
    # It is also compared with the model pushed before it, which was compared with none.
    assert broken_run.baseline == first_run.model
    assert first_run.baseline is None
    assert any(
        reason.startswith("cold ndcg@5") and "last blessed model reaches" in reason
        for reason in broken_run.reasons
    )
    assert len(_versions(broken_run)) == 1
    blessed = lambda component: broken_run.outputs.artifact(component, "blessing")
    assert blessed("Evaluator").get_int_custom_property("blessed") == 0
    # Its signatures still answer as promised; only its metrics show the fault.
    assert blessed("ServingValidator").get_int_custom_property("blessed") == 1


def test_an_export_without_its_weights_is_not_blessed(first_run, tmp_path):
    from tfx.components.pusher.executor import Executor as Pusher
    from tfx.types import standard_artifacts

    from cmclrec_tf.schema import Schema
    from pipeline.components.serving_validator import ServingValidator

    model, blessing = standard_artifacts.Model(), standard_artifacts.InfraBlessing()
    model.uri, blessing.uri = str(tmp_path / "model"), str(tmp_path / "blessing")
    shutil.copytree(first_run.pushed_version, tmp_path / "model" / "Format-Serving")
    shutil.rmtree(tmp_path / "model" / "Format-Serving" / "variables")
    inputs = {
        "model": [model],
        "examples": [first_run.outputs.artifact("ExampleGen", "examples")],
        "transform_graph": [first_run.outputs.artifact("Transform", "transform_graph")],
    }
    executor = ServingValidator.EXECUTOR_SPEC.executor_class
    executor().Do(
        inputs,
        {"blessing": [blessing]},
        {
            "features": json.dumps(Schema(first_run.spec.features).to_dict()["features"]),
            "list_length": first_run.config.serve.list_length,
            "hides_history": 1,
            "sources": "",
        },
    )
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").is_file()
    assert "cannot be called" in (tmp_path / "blessing" / "REASONS.txt").read_text()
    assert not Pusher().CheckBlessing({"infra_blessing": [blessing]})


@pytest.mark.slow
def test_a_missed_bound_is_printed_with_the_value(broken_run, setting):
    from pipeline.commands.cli import run

    result = setting.invoke(run, "--run-fn", "tests.pipeline.broken_cold.run_fn")
    assert result.exit_code == 1
    assert "The model was not pushed" in result.output
    assert "cold coverage@5 = 5 is below its bound 8" in result.output
    # Cold users with one list for all are served below popularity, which `warn` only says.
    lines = [line for line in result.output.splitlines() if line.startswith("Warning: ")]
    assert any(line.startswith("Warning: cold users are served below popularity") for line in lines)
    assert [line.removeprefix("Warning: ") for line in lines] == broken_run.warnings
    for title in ("CMCLRec", "popularity, all events", "popularity, last events"):
        assert any(line.startswith(title) for line in result.output.splitlines())


@pytest.mark.slow
def test_the_same_run_again_is_cached_and_serves_its_model(broken_run, setting):
    """Other versions were refused, lost and pushed in between, which must not matter."""
    from pipeline.commands.cli import quickstart

    serving = broken_run.folders.serving
    (pushed,) = serving.iterdir()
    newer = serving / str(int(pushed.name) + 10_000_000)
    shutil.copytree(pushed, newer)
    shutil.rmtree(pushed)
    result = setting.invoke(quickstart)
    assert result.exit_code == 0, result.output
    again = setting.run()
    for component in DATA_HALF + GATE_HALF:
        assert again.outputs.was_cached(component), component
    assert _versions(again) == [newer.name, again.pushed_version.name]
    assert f"Serving version {again.pushed_version.name} on 127.0.0.1:" in result.output
    assert result.output.count("is recommended") == 3
    for line in ("CMCLRec", "popularity, all events", "popularity, last events", "Try next"):
        assert line in result.output
    assert f"clusters: {again.users}\n" in result.output and "; dropped 0 with" in again.users
    assert f"data anomalies: {again.anomalies}" in result.output


def test_anomalies_are_counted_by_feature(first_run, tmp_path):
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from pipeline.commands.run_results import Run

    for split, names in {"train": [], "val": ["job", "zip"]}.items():
        anomalies = anomalies_pb2.Anomalies()
        for name in names:
            anomalies.anomaly_info[name].description = "unexpected"
        (tmp_path / f"Split-{split}").mkdir()
        (tmp_path / f"Split-{split}" / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    run = types.SimpleNamespace(validation=str(tmp_path))
    assert Run.anomalies.fget(run) == 2


def test_a_failed_copy_leaves_only_versions(first_run):
    from pipeline.commands.run import _make_newest_version

    pushed, serving = first_run.pushed_version, first_run.folders.serving
    artifact = pathlib.Path(first_run.outputs.artifact("Pusher", "pushed_model").uri)
    shutil.rmtree(pushed)
    (artifact / "lost").symlink_to("nowhere")
    with pytest.raises(InputError, match="lost"):
        _make_newest_version(first_run)
    assert all(name.isdigit() for name in _versions(first_run))
    (artifact / "lost").unlink()
    _make_newest_version(first_run)
    assert (
        first_run.pushed_version.parent == serving
        and (first_run.pushed_version / "saved_model.pb").is_file()
    )
    assert all(name.isdigit() for name in _versions(first_run))


def test_a_version_that_was_rolled_back_is_not_pushed_again(first_run):
    from pipeline.commands.run import _make_newest_version
    from serving import versions

    pushed, before = first_run.pushed_version, _versions(first_run)
    aside = pushed.rename(pushed.with_name(f"{pushed.name}{versions.ROLLED_BACK}"))
    with pytest.raises(InputError, match=f"cmclrec versions restore {pushed.name}"):
        _make_newest_version(first_run)
    assert not pushed.exists()
    aside.rename(pushed)
    _make_newest_version(first_run)
    assert _versions(first_run) == before


@pytest.mark.slow
def test_the_trainer_uses_the_settings_of_the_tuner(first_run, setting, monkeypatch):
    """From a learning rate that learns nothing, a search of two trials finds one that does.

    It comes last, as it pushes another model.
    """
    from cmclrec_tf import search
    from pipeline.commands import run_report

    rate = "finetune.learning_rate"
    monkeypatch.setattr(search, "SPACE", {rate: (0.01,)})
    lost = dataclasses.replace(setting, config=setting.config.changed({rate: 1e-9}))
    run = lost.run(trials=2)
    assert run.tuned_settings == {rate: 0.01}
    assert run.rows["warm"]["ndcg@5"] > 0.2
    assert f"{rate}=0.01" in run_report.places(run)
    assert f"`{rate} = 0.01`" in pathlib.Path(run.card, "model_card.md").read_text()
    again = lost.run(trials=2)
    for component in ("Tuner", "Trainer", "Pusher"):
        assert again.outputs.was_cached(component)
    assert not setting.run().tuned_settings

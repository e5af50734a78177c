"""The experiment on short histories: what it judges, what it chooses, what it keeps."""

import csv

import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import cmclrec_tf.models  # noqa: F401 - its classes are what a model's file names
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from experiments import short_histories
from experiments.cli import experiment
from experiments.short_histories import COLD, EVENTS, FULL, RULES, WARM, count_rule, share_rule
from experiments.short_histories_report import Found, ndcg, recall
from tests.conftest import TINY
from tests.experiments.toy import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    prepare(folder / "salt0", 0)
    config = {**TINY, "data": {"max_history": 6}}
    config["finetune"] = {**TINY["finetune"], "epochs": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _run(folder, *more):
    given = ["--dataset", "toy", "--prepared", folder / "salt{run}", "--runs", 1]
    given += ["--config", folder / "config.yaml", "--out", folder / "out", *more]
    result = CliRunner().invoke(experiment, ["short-histories", *map(str, given)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def shown(setting):
    return _run(setting)


@pytest.fixture(scope="module")
def trained(setting, shown):
    model = keras.saving.load_model(setting / "out" / "run0" / "short-default" / "model.keras")
    return model, PreparedDataset.load(setting / "salt0").with_history(6)


def test_the_command_leaves_tables(setting, shown):
    out = setting / "out"
    assert (out / "short-histories-default.md").read_text() in shown + "\n"
    assert "cmclrec experiment short-histories --dataset toy" in shown
    with open(out / "short-histories-default.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    # Nobody has 10 events or 20.
    assert {line["n"] for line in lines} == {"1", "2", "3", "5", "all"}
    assert len(lines) == 2 * 5 * len(RULES)


def test_whole_histories_are_judged_as_everywhere(trained):
    model, dataset = trained
    found = short_histories.ranks_of(model, dataset, "test")[FULL]
    report = evaluate(model, dataset, "test")
    warm = ~report.is_cold
    ranks = found[RULES.index(WARM)]
    np.testing.assert_allclose(ndcg(ranks), report.users["ndcg@20"][warm], atol=1e-9)
    np.testing.assert_allclose(recall(ranks), report.users["recall@20"][warm], atol=1e-9)


def test_only_the_newest_events_are_told(trained):
    """Of the users with enough of them: an older event neither counts nor is left out."""
    model, dataset = trained
    batch = next(iter(dataset.batches("test", 64)))
    chosen = ~batch["is_cold"].numpy() & ((batch["history"].numpy() > 0).sum(axis=1) >= 5)
    history, target = batch["history"].numpy()[chosen], batch["target"].numpy()[chosen, 0]
    cut = np.pad(history[:, -2:], ((0, 0), (4, 0)))
    scores = np.asarray(model.score(model.warm_states(cut))).copy()
    np.put_along_axis(scores, history[:, -2:], -np.inf, axis=1)
    better = scores > np.take_along_axis(scores, target[:, None], axis=1)
    found = short_histories.ranks_of(model, dataset, "test")
    five = np.isin(np.flatnonzero(~batch["is_cold"].numpy()), np.flatnonzero(chosen))
    np.testing.assert_array_equal(found[2][RULES.index(WARM)][five], 1 + better.sum(axis=1))
    assert found[5].shape[1] == chosen.sum() < found[2].shape[1]


def test_what_exists_is_not_trained_again(setting, shown, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("experiments.table_rows.Row.train", fail)
    before = (setting / "out" / "short-histories-default.md").read_text()
    assert before in _run(setting) + "\n"


def test_rules_are_chosen_on_validation_users():
    hit, miss = 1, 99
    runs = {}
    for split, good in (("val", ("share 0.3", "events 2")), ("test", ("share 0.9", "events 8"))):
        ranks = [[hit if rule in good else miss] * 3 for rule in RULES]
        runs |= {f"{split}/{n}": np.array(ranks) for n in EVENTS}
    found = Found([runs, runs])
    assert set(found.shares.values()) == {share_rule(0.3)}
    assert count_rule(found.count) == "events 2"
    assert found.mean("share 0.3", 1, "val") == 1 and found.mean("share 0.3", 1, "test") == 0


def test_a_rule_is_told_against_the_warm_way():
    ranks = np.full((len(RULES), 40), 1)
    ranks[RULES.index(WARM)] = 3
    ranks[RULES.index(COLD), :20] = 30
    runs = {f"{split}/{n}": ranks for split in ("val", "test") for n in EVENTS}
    ratio, p = Found([runs]).against_warm("joined", 1)
    assert (ratio, p < 0.001) == (2.0, True)
    assert Found([runs]).against_warm(COLD, 1)[0] == 1.0


def test_what_has_no_cold_way_is_refused(setting):
    with pytest.raises(InputError, match="a warm and a cold way"):
        _run(setting, "--model", "sasrec")

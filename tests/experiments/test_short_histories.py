"""The short-history experiment: its ranks, the rules it selects, and the results it keeps."""

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
from experiments.short_histories_report import (
    COLD,
    EVENTS,
    FULL,
    RULES,
    WARM,
    RuleResults,
    count_rule,
    ndcg,
    recall,
    share_rule,
)
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
    arguments = ["--dataset", "toy", "--prepared", folder / "salt{run}", "--runs", 1]
    arguments += ["--config", folder / "config.yaml", "--out", folder / "out", *more]
    result = CliRunner().invoke(experiment, ["short-histories", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def output(setting):
    return _run(setting)


@pytest.fixture(scope="module")
def trained(setting, output):
    model = keras.saving.load_model(setting / "out" / "run0" / "short-default" / "model.keras")
    return model, PreparedDataset.load(setting / "salt0").with_history(6)


def test_the_command_writes_tables(setting, output):
    out = setting / "out"
    assert (out / "short-histories-default.md").read_text() in output + "\n"
    assert "cmclrec experiment short-histories --dataset toy" in output
    with open(out / "short-histories-default.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    # No user has 10 or 20 events.
    assert {line["n"] for line in lines} == {"1", "2", "3", "5", "all"}
    assert len(lines) == 2 * 5 * len(RULES)


def test_full_histories_give_the_metrics_of_evaluate(trained):
    model, dataset = trained
    full = short_histories.ranks_of(model, dataset, "test")[FULL]
    report = evaluate(model, dataset, "test")
    warm = ~report.is_cold
    ranks = full[RULES.index(WARM)]
    np.testing.assert_allclose(ndcg(ranks), report.users["ndcg@20"][warm], atol=1e-9)
    np.testing.assert_allclose(recall(ranks), report.users["recall@20"][warm], atol=1e-9)


def test_only_the_newest_events_are_used(trained):
    """An older event neither changes the state nor is left out of the list."""
    model, dataset = trained
    batch = next(iter(dataset.batches("test", 64)))
    selected = ~batch["is_cold"].numpy() & ((batch["history"].numpy() > 0).sum(axis=1) >= 5)
    history, target = batch["history"].numpy()[selected], batch["target"].numpy()[selected, 0]
    cut = np.pad(history[:, -2:], ((0, 0), (4, 0)))
    scores = np.asarray(model.score(model.warm_states(cut))).copy()
    np.put_along_axis(scores, history[:, -2:], -np.inf, axis=1)
    better = scores > np.take_along_axis(scores, target[:, None], axis=1)
    ranks = short_histories.ranks_of(model, dataset, "test")
    five = np.isin(np.flatnonzero(~batch["is_cold"].numpy()), np.flatnonzero(selected))
    np.testing.assert_array_equal(ranks[2][RULES.index(WARM)][five], 1 + better.sum(axis=1))
    assert ranks[5].shape[1] == selected.sum() < ranks[2].shape[1]


def test_an_existing_result_is_not_trained_again(setting, output, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("experiments.table_rows.Row.train", fail)
    before = (setting / "out" / "short-histories-default.md").read_text()
    assert before in _run(setting) + "\n"


def test_rules_are_selected_on_validation_users():
    hit, miss = 1, 99
    runs = {}
    for split, good in (("val", ("share 0.3", "events 2")), ("test", ("share 0.9", "events 8"))):
        ranks = [[hit if rule in good else miss] * 3 for rule in RULES]
        runs |= {f"{split}/{n}": np.array(ranks) for n in EVENTS}
    results = RuleResults([runs, runs])
    assert set(results.shares.values()) == {share_rule(0.3)}
    assert count_rule(results.count) == "events 2"
    assert results.mean("share 0.3", 1, "val") == 1 and results.mean("share 0.3", 1, "test") == 0


def test_a_rule_is_compared_with_the_warm_path():
    ranks = np.full((len(RULES), 40), 1)
    ranks[RULES.index(WARM)] = 3
    ranks[RULES.index(COLD), :20] = 30
    runs = {f"{split}/{n}": ranks for split in ("val", "test") for n in EVENTS}
    ratio, p = RuleResults([runs]).against_warm("joined", 1)
    assert (ratio, p < 0.001) == (2.0, True)
    assert RuleResults([runs]).against_warm(COLD, 1)[0] == 1.0


def test_a_row_without_a_cold_path_is_rejected(setting):
    with pytest.raises(InputError, match="a warm and a cold path"):
        _run(setting, "--model", "sasrec")

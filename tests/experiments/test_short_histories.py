"""The short-history experiment: its ranks, its comparisons, and the results it keeps."""

import csv

import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import cmclrec_tf.models  # noqa: F401 - its classes are what a model's file names
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from experiments import short_histories
from experiments import short_histories_report as report
from experiments.cli import experiment
from experiments.short_histories_report import (
    EVENTS,
    FEATURES,
    FULL,
    HISTORY,
    RULES,
    TOGETHER,
    RuleResults,
    ndcg,
    recall,
)
from experiments.table_rows import parse_rows
from tests.conftest import TINY
from tests.experiments.toy import prepare

ROWS = (*RULES, "sasrec", "popularity", "popularity-last")


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


@pytest.mark.slow
def test_the_command_writes_tables(setting, output):
    out = setting / "out"
    assert (out / "short-histories-default.md").read_text() in output + "\n"
    assert "cmclrec experiment short-histories --dataset toy" in output
    with open(out / "short-histories-default.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    # No user has 10 or 20 events.
    assert {line["n"] for line in lines} == {"1", "2", "3", "5", "all"}
    assert [line["rule"] for line in lines if line["n"] == "1"] == list(ROWS)


@pytest.mark.slow
def test_full_histories_give_the_metrics_of_evaluate(setting, output, trained):
    model, dataset = trained
    stored = {}
    for row in ("default", "sasrec", "popularity"):
        with np.load(setting / "out" / "run0" / f"short-{row}" / "ranks.npz") as ranks:
            stored |= dict(ranks)
    sasrec = keras.saving.load_model(setting / "out" / "run0" / "short-sasrec" / "model.keras")
    recommenders = {TOGETHER: model, "sasrec": sasrec, "popularity": Popularity(dataset)}
    for rule, recommender in recommenders.items():
        metrics = evaluate(recommender, dataset, "test")
        warm, ranks = ~metrics.is_cold, stored[f"{rule}/{FULL}"]
        np.testing.assert_allclose(ndcg(ranks), metrics.users["ndcg@20"][warm], atol=1e-9)
        np.testing.assert_allclose(recall(ranks), metrics.users["recall@20"][warm], atol=1e-9)


@pytest.mark.slow
def test_only_the_newest_events_are_used(trained):
    """An older event neither changes the state nor is left out of the list."""
    model, dataset = trained
    batch = next(iter(dataset.batches("test", 64)))
    selected = ~batch["is_cold"].numpy() & ((batch["history"].numpy() > 0).sum(axis=1) >= 5)
    history, target = batch["history"].numpy()[selected], batch["target"].numpy()[selected, 0]
    features = {name: values.numpy()[selected] for name, values in batch["features"].items()}
    cut = np.pad(history[:, -2:], ((0, 0), (4, 0)))
    states = {
        HISTORY: model.warm_states(cut),
        FEATURES: model.cold_states(features),
        TOGETHER: model.states(cut, features),
    }
    (row,) = parse_rows(["default"], "toy")
    ranks = short_histories.ranks_of(short_histories.lists_of(row, model), dataset)
    five = np.isin(np.flatnonzero(~batch["is_cold"].numpy()), np.flatnonzero(selected))
    for rule, state in states.items():
        scores = np.asarray(model.score(state)).copy()
        np.put_along_axis(scores, history[:, -2:], -np.inf, axis=1)
        better = (scores > np.take_along_axis(scores, target[:, None], axis=1)).sum(axis=1)
        expected = np.where(better < 20, 1 + better, 0)
        np.testing.assert_array_equal(ranks[f"{rule}/2"][five], expected)
    assert len(ranks[f"{HISTORY}/5"]) == selected.sum() < len(ranks[f"{HISTORY}/2"])


@pytest.mark.slow
def test_an_existing_result_is_not_trained_again(setting, output, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("experiments.table_rows.Row.train", fail)
    before = (setting / "out" / "short-histories-default.md").read_text()
    assert before in _run(setting) + "\n"


def test_newest_only():
    history = np.array([[0, 4, 5, 6], [0, 0, 0, 7]])
    assert short_histories.newest_only(history, 2).tolist() == [[0, 0, 5, 6], [0, 0, 0, 7]]
    assert short_histories.newest_only(history, FULL).tolist() == history.tolist()


def _ranks(first_user=0, **rules):
    """The ranks of a run of 40 users for each n, the same for all n."""
    ranks = {rule: np.resize(rules.get(rule, [1]), 40).astype(np.int32) for rule in ROWS}
    ranks["users"] = first_user + np.arange(40)
    return {f"{name}/{n}": values for name, values in ranks.items() for n in EVENTS}


def test_both_together_are_compared_with_each_other_rule():
    runs = [_ranks(history=[3], features=[0, 1]), _ranks(99, history=[3], features=[1, 0])]
    results = RuleResults(runs)
    ratio, p = results.against(TOGETHER, HISTORY, 1)
    assert (ratio, p < 0.001) == (2.0, True)
    assert results.against(TOGETHER, FEATURES, FULL)[0] == 2.0
    assert results.against(TOGETHER, "sasrec", 5) == (1.0, 1.0)
    assert results.cell(FEATURES, 3) == ".5000 / .5000 ± .0000"


def test_users_of_all_runs_count_once():
    """Their values are averaged first: more runs of the same users are no more users."""
    rng = np.random.default_rng(0)
    first = _ranks(history=rng.integers(1, 9, 40), together=rng.integers(1, 9, 40))
    backwards = {name: values[::-1] for name, values in first.items()}
    one, two = RuleResults([first]), RuleResults([first, backwards])
    assert two.against(TOGETHER, HISTORY, 3) == pytest.approx(one.against(TOGETHER, HISTORY, 3))
    others = {**first, **{f"users/{n}": 99 + np.arange(40) for n in EVENTS}}
    assert (
        RuleResults([first, others]).against(TOGETHER, HISTORY, 3)[1]
        != one.against(TOGETHER, HISTORY, 3)[1]
    )


def test_the_tables_hold_every_rule_and_number_of_events(tmp_path):
    runs = [_ranks(history=[3], sasrec=[2]), _ranks(history=[3], sasrec=[7])]
    for run in runs:
        run |= {f"{name}/20": np.zeros(0, np.int32) for name in (*ROWS, "users")}  # no such users
    versions = [{"numpy": "1"}, {"numpy": "2"}]
    page = report.write(tmp_path, "toy", "default", ROWS[3:], runs, versions, "a command")
    values, comparisons = page.text.split("## `together` against the others")
    lines = [line for line in values.splitlines() if line.startswith("| ") and "---" not in line]
    assert [line.split("|")[1].strip() for line in lines] == ["n", "1", "2", "3", "5", "10", "all"]
    assert [cell.strip() for cell in lines[0].split("|")[3:-1]] == list(ROWS)
    assert "| 1.0000 / .5000 ± .0000 |" in lines[1]
    (line,) = (line for line in comparisons.splitlines() if line.startswith("| all "))
    means = [1 / np.log2(1 + rank) for rank in (2, 7)]
    assert f"{1 / np.mean(means):.3f} (p = " in line and "2.000 (p = " in line
    assert "numpy 1 and 2" in comparisons and "a command" in comparisons
    assert page.files[0].read_text() == page.text + "\n"


def test_a_row_without_features_is_rejected(setting):
    with pytest.raises(InputError, match="histories and user features together"):
        _run(setting, "--model", "sasrec")

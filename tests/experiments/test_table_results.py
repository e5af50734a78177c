"""Means, deviations and comparisons of a table, on numbers typed out."""

import math

import numpy as np
import pytest
import scipy.stats

from experiments.run_folders import KEY
from experiments.table_results import (
    FIRST_ITEMS,
    LEAVE_ONE_OUT,
    LISTS,
    QUALITY,
    Results,
    likelihoods,
)

COLUMN = {(column.label, column.metric): column for column in (*QUALITY, *LISTS)}
IS_COLD = np.arange(400) % 2 == 0


def _run(seed, level):
    """One run: NDCG around `level`, other metrics fixed; coverage 400 times it."""
    rng = np.random.default_rng(seed)
    # The same users of a run are hard for all rows.
    noise = np.random.default_rng(99 + seed // 10).normal(size=400)
    users = {"is_cold": IS_COLD}
    for key in ("ndcg@20", "recall@20", "ndcg_all@20", "recall_all@20"):
        users[key] = level + 0.2 * noise + 0.01 * rng.normal(size=400)
    segments = {}
    for segment, rows in (("warm", ~IS_COLD), ("cold", IS_COLD), ("overall", IS_COLD | True)):
        means = {key: float(users[key][rows].mean()) for key in users if key != "is_cold"}
        segments[segment] = {**means, "coverage@20": 400 * level, "jaccard@20": 1 - level}
    return {"segments": segments}, users


def _results(**levels):
    runs = {
        name: [_run(10 * run + i, level) for run in range(3)]
        for i, (name, level) in enumerate(levels.items())
    }
    metrics = {name.replace("_", "-"): [run for run, _ in pairs] for name, pairs in runs.items()}
    users = {name.replace("_", "-"): [each for _, each in pairs] for name, pairs in runs.items()}
    return Results(metrics, users, {"default", "paper", "NoDA"})


def test_means_and_deviations():
    results = _results(popularity=0.2, default=0.5)
    column = COLUMN["cold last", "NDCG@20"]
    values = [_run(seed, 0.2)[1]["ndcg@20"][IS_COLD].mean() for seed in (0, 10, 20)]
    assert results.mean("popularity", column) == pytest.approx(np.mean(values))
    assert results.deviation("popularity", column) == pytest.approx(np.std(values, ddof=1))
    assert results.mean("default", COLUMN["cold", "coverage"]) == 200


def test_comparison_with_the_best_other_row():
    results = _results(popularity=0.4, sasrec=0.5, paper=0.7, default=0.52)
    column = COLUMN["warm", "NDCG@20"]
    comparisons = results.compare_with_best()
    (comparison,) = (c for c in comparisons if c.row == "default" and c.column == column)
    assert comparison.other == "sasrec"
    means = [results.mean(name, column) for name in ("default", "sasrec")]
    assert comparison.ratio == pytest.approx(means[0] / means[1])
    pooled = [
        np.concatenate([users["ndcg@20"][~IS_COLD] for users in results.users[name]])
        for name in ("default", "sasrec")
    ]
    assert len(pooled[0]) == 600
    assert comparison.p_t == pytest.approx(scipy.stats.ttest_rel(*pooled).pvalue)
    assert comparison.p_t < comparison.p_flip < 0.001
    assert len(comparisons) == 2 * len(QUALITY)


def test_no_row_to_compare_with():
    assert _results(default=0.5).compare_with_best() == []


def test_a_ratio_by_luck_is_not_significant():
    """Two users make the mean far higher, the others do not differ: p values stay large."""
    results = _results(popularity=0.1, default=0.5)
    rows = zip(results.users["default"], results.users["popularity"], strict=True)
    for i, (ours, others) in enumerate(rows):
        lucky = np.where((np.arange(400) < 2) & (i == 0), 50, 0)
        ours["ndcg@20"] = others["ndcg@20"] + lucky
    comparison = results.compare("default", "popularity", COLUMN["cold last", "NDCG@20"])
    assert min(comparison.p_t, comparison.p_flip) > 0.01


def test_one_run_has_no_deviation():
    results = _results(popularity=0.1)
    results.metrics["popularity"] = results.metrics["popularity"][:1]
    assert math.isnan(results.deviation("popularity", COLUMN["warm", "NDCG@20"]))


def _with_likelihood(results, **levels):
    """Adds log-likelihoods around a level to some rows; every 50th user has an unknown target."""
    for name, level in levels.items():
        for metrics, users in zip(results.metrics[name], results.users[name], strict=True):
            values = level + 0.1 * np.random.default_rng(len(name)).normal(size=400)
            values[::50] = np.nan
            users["log_likelihood"] = values
            for segment, rows in (("warm", ~IS_COLD), ("cold", IS_COLD), ("overall", IS_COLD | 1)):
                mean = float(np.nanmean(values[rows.astype(bool)]))
                metrics["segments"][segment]["log_likelihood"] = mean
    return results


def test_log_likelihoods_are_compared_as_shares():
    results = _results(popularity=0.1, random=0.1, default=0.5, paper=0.4)
    _with_likelihood(results, popularity=-8.0, default=-7.0, paper=-7.1)
    comparisons = results.compare_with_best() + results.compare_pairs([("default", "paper")])
    by_rows = {
        (c.row, c.other, c.column.label): c
        for c in comparisons
        if c.column.metric == "log-likelihood"
    }
    assert {(row, other) for row, other, _ in by_rows} == {
        ("default", "popularity"),
        ("paper", "popularity"),
        ("default", "paper"),
    }
    best = by_rows["default", "popularity", "cold last"]
    assert best.ratio == pytest.approx(math.e, rel=0.1) and best.p_t < 1e-6
    # The users without a known target are left out of the test, not counted as a difference.
    pair = by_rows["default", "paper", "cold last"]
    pooled = [
        np.concatenate([users["log_likelihood"][IS_COLD] for users in results.users[name]])
        for name in ("default", "paper")
    ]
    known = ~np.isnan(pooled[0])
    expected = scipy.stats.ttest_rel(*(values[known] for values in pooled)).pvalue
    assert pair.p_t == pytest.approx(expected)


def test_results_that_were_stored_without_likelihoods_have_none():
    results = _with_likelihood(_results(popularity=0.1, default=0.5), default=-7.0)
    del results.users["default"][1]["log_likelihood"]
    del results.metrics["default"][1]["segments"]["cold"]["log_likelihood"]
    column = next(c for c in results.likelihoods if c.label == "cold last")
    assert not results.has("default", column) and not results.has("popularity", column)
    assert math.isnan(results.mean("default", column))
    assert len(results.compare_with_best()) == len(QUALITY)


def test_likelihoods_have_one_column_for_each_segment():
    assert [c.label for c in likelihoods(QUALITY)] == ["warm", "cold last", "overall"]
    assert [c.label for c in likelihoods(LEAVE_ONE_OUT)] == ["all users"]


def test_users_of_all_runs_count_once_with_the_mean_of_the_runs():
    """As by a plain loop; the users of a run may come in another order."""
    rng = np.random.default_rng(4)
    users, by_key = {"a": [], "b": []}, {}
    for _ in range(3):
        keys = rng.permutation(50)
        values = {name: {"is_cold": keys % 2 == 0, KEY: keys} for name in users}
        for name in users:
            values[name]["ndcg@20"] = rng.random(50)
            for key, value in zip(keys, values[name]["ndcg@20"], strict=True):
                by_key.setdefault((name, key), []).append(value)
            users[name].append(values[name])
    segments = {"segments": {"warm": {"ndcg@20": 0.5}}}
    results = Results({name: [segments] * 3 for name in users}, users, {"a"})
    warm = results.compare("a", "b", COLUMN["warm", "NDCG@20"])
    means = [[np.mean(by_key[name, key]) for key in range(1, 50, 2)] for name in users]
    assert warm.p_t == pytest.approx(scipy.stats.ttest_rel(*means).pvalue)
    for values in users["a"]:
        values["ndcg@20"] = np.where(values[KEY] == 7, np.nan, values["ndcg@20"])
    users["a"][0]["ndcg@20"][users["a"][0][KEY] == 9] = np.nan
    known = results._all_users("a", COLUMN["warm", "NDCG@20"])
    assert np.isnan(known[3]) and known[4] == pytest.approx(np.mean(by_key["a", 9][1:]))


def test_columns_of_first_items_are_those_of_last_ones_by_another_name():
    assert [column.label for column in FIRST_ITEMS[2:6:2]] == ["cold first", "cold all"]
    assert [c.key for c in FIRST_ITEMS] == [c.key for c in QUALITY]

"""Metrics, ranking and reports by segment, against values computed by hand."""

import numpy as np
import pytest
from keras import ops

from cmclrec_tf.baselines.feature_knn import FeatureKNN
from cmclrec_tf.baselines.feature_mlp import FeatureMLP, FeatureMLPConfig
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.baselines.random import Random
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate, metrics, table
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import CMCLRec, ranking


def test_metrics_by_hand():
    lists = np.array([[5, 3, 9, 4], [1, 2, 3, 4]])
    hit, n = metrics.hits(lists, [[3, 4, 7], [8]])
    np.testing.assert_array_equal(hit, [[0, 1, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(metrics.recall(hit, n, 2), [1 / 3, 0])
    np.testing.assert_allclose(metrics.recall(hit, n, 4), [2 / 3, 0])
    dcg, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    np.testing.assert_allclose(metrics.ndcg(hit, n, 4), [dcg / ideal, 0])
    np.testing.assert_allclose(metrics.ndcg(hit, n, 2), [1 / np.log2(3) / (1 + 1 / np.log2(3)), 0])
    np.testing.assert_allclose(metrics.reciprocal_rank(hit), [1 / 2, 0])
    assert metrics.coverage(lists, 4) == 6 and metrics.coverage(lists, 1) == 2


def test_a_k_beyond_the_list_counts_the_whole_list():
    hit, n = metrics.hits(np.array([[1, 2]]), [[2]])
    np.testing.assert_allclose(metrics.ndcg(hit, n, 10), [1 / np.log2(3)])


def test_a_perfect_list_scores_one_and_strings_work():
    hit, n = metrics.hits(np.array([["a", "b", "c"]]), [["a", "b"]])
    assert metrics.ndcg(hit, n, 3) == 1 and metrics.recall(hit, n, 3) == 1


def test_hits_by_hand_for_lists_of_every_length():
    lists = np.array([[5, 6, 7], [7, 5, 9], [1, 2, 3]])
    hit, n = metrics.hits(lists, [[7, 7, 100], [], [3, 1, 2, 8]])
    assert hit.tolist() == [[False, False, True], [False] * 3, [True] * 3]
    assert n.tolist() == [2, 0, 4]
    with pytest.raises(ValueError, match="3 lists and 2 sets"):
        metrics.hits(lists, [[1], [2]])


@pytest.mark.parametrize("users", [2, 255, 256, 600])
def test_mean_jaccard_equals_the_mean_over_all_pairs(users):
    rng = np.random.default_rng(users)
    lists = np.stack([rng.permutation(12)[:5] for _ in range(users)])
    lists[0, 3:] = 99  # the end of a short list
    sets = [set(row) - {99} for row in lists]
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[:i]]
    expected = np.mean([len(a & b) / len(a | b) for a, b in pairs])
    assert metrics.mean_jaccard(lists, 5, pad=99) == pytest.approx(expected)


def test_mean_jaccard_of_many_users_is_sampled(monkeypatch):
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(12)[:5] for _ in range(900)])
    whole = metrics.mean_jaccard(lists, 5)
    monkeypatch.setattr(metrics, "PAIRED", 300)
    assert metrics.mean_jaccard(lists, 5) == pytest.approx(whole, rel=0.02)
    assert metrics.mean_jaccard(lists, 5) == metrics.mean_jaccard(lists, 5) != whole


def test_mean_jaccard():
    assert metrics.mean_jaccard(np.array([[1, 2], [2, 1], [1, 2]]), 2) == 1
    assert metrics.mean_jaccard(np.array([[1, 2], [2, 3]]), 2) == pytest.approx(1 / 3)
    assert np.isnan(metrics.mean_jaccard(np.array([[1, 2]]), 2))


@pytest.mark.parametrize("size", [3 * 4 * 64 + 1, 3 * 5 * 64, 5001])
@pytest.mark.parametrize("left", [2, None])
def test_lists_of_a_large_catalogue_equal_a_stable_sort(size, left):
    """Many scores tie, and some rows have fewer than K items left."""
    rng = np.random.default_rng(size)
    scores = rng.integers(1, 4, (20, size)) * (rng.random((20, size)) < 5 / size)
    kept = rng.random((20, size)) < 0.5 if left is None else np.arange(size) >= size - left
    scores = np.where(kept, scores, MASKED_SCORE).astype("float32")
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    best = np.take_along_axis(scores, expected, axis=1)
    values, ids = ranking.top_k(ops.convert_to_tensor(scores), 3)
    np.testing.assert_array_equal(values, best)
    np.testing.assert_array_equal(ids, np.where(best > MASKED_SCORE / 2, expected, 0))


def test_ranking_equals_a_sort():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(12.0, dtype="float32"), (5, 1)), axis=1)
    excluded = np.array([[2, 3, 0], [0, 0, 0], [4, 4, 1], [11, 5, 6], [2, 0, 0]])
    shut = np.asarray(ranking.exclude(scores, excluded))
    _, ids = ranking.top_k(shut, 12)
    for row in range(5):
        gone = {0, 1, *excluded[row]}
        expected = [i for i in np.argsort(-scores[row]) if i not in gone]
        assert [i for i in np.asarray(ids)[row] if i] == expected
        for place, item in enumerate(expected):
            got = ranking.single_item_ndcg(shut[row : row + 1], np.array([item]), 3)
            want = 1 / np.log2(place + 2) if place < 3 else 0.0
            assert float(got[0]) == pytest.approx(want, rel=1e-6)


def test_an_unknown_target_is_a_miss():
    shut = ranking.exclude(np.zeros((1, 5), "float32"), np.zeros((1, 0), "int32"))
    assert float(ranking.single_item_ndcg(shut, np.array([1]), 5)[0]) == 0


def test_ties_nan_and_shut_out_targets_are_no_hits():
    """A broken model must not look like the best one."""
    scores = np.array([[9.0, 9, 1, 1, 1], [np.nan] * 5, [9.0, 9, 5, 4, 3]], "float32")
    shut = ranking.exclude(scores, np.array([[0], [0], [2]]))
    got = ranking.single_item_ndcg(shut, np.array([3, 3, 2]), 2)
    np.testing.assert_array_equal(got, [0, 0, 0])


def test_the_end_of_a_short_list_is_no_item():
    lists = np.array([[3, 4, 0], [3, 5, 4]])
    assert metrics.coverage(lists, 3, pad=0) == 3
    assert metrics.mean_jaccard(lists, 3, pad=0) == pytest.approx(2 / 3)


def test_popularity_rejects_unknown_events():
    with pytest.raises(InputError, match="all.*last"):
        Popularity(None, "lst")


@pytest.mark.parametrize("events", ["all", "last"])
def test_popularity_counts_train_events(dataset, records, events):
    counts = {}
    for record in records["train"]:
        for item in [*(record["history"] if events == "all" else []), *record["target"]]:
            counts[item] = counts.get(item, 0) + 1
    from cmclrec_tf.data.vocabulary import read

    items = read(dataset.vocabularies["items"])
    popularity = Popularity(dataset, events)
    assert {i: int(n) for i, n in zip(items, popularity.scores[2:], strict=True) if n} == counts


def test_report_lies_between_the_segments(dataset):
    report = evaluate(Popularity(dataset), dataset, ks=(5, 10))
    rows = report.rows
    assert rows["warm"]["users"] + rows["cold"]["users"] == rows["overall"]["users"] == 32
    for name in ("recall@5", "ndcg@10", "mrr"):
        low, high = sorted((rows["warm"][name], rows["cold"][name]))
        assert low <= rows["overall"][name] <= high
        cold = report.users[name][report.is_cold]
        assert rows["cold"][name] == pytest.approx(cold.mean())
    assert rows["cold"]["jaccard@5"] == 1  # popularity has one list for all users
    assert rows["cold"]["coverage@5"] == 5


def test_a_k_above_the_catalogue_is_cut(dataset):
    report = evaluate(Popularity(dataset), dataset, ks=(5, 1000))
    assert report.rows["cold"]["recall@1000"] == 1


def test_every_unknown_target_is_a_miss(records, tmp_path):
    from cmclrec_tf.data.in_memory import prepare_tables
    from tests.conftest import FEATURES

    cold = {**records["test"][-1], "history": [], "target": ["new", "newer", "i1"]}
    small = {"train": records["train"], "val": records["val"], "test": [cold]}
    dataset = prepare_tables(small, FEATURES, tmp_path / "unknown", max_history=8)
    report = evaluate(Popularity(dataset), dataset, ks=(20,))
    assert report.rows["cold"]["recall_all@20"] == 1 / 3
    assert report.rows["cold"]["recall@20"] == 1  # the last item is i1


def test_cold_users_are_judged_on_the_last_item_and_on_all(records, tmp_path):
    from cmclrec_tf.data.in_memory import prepare_tables
    from tests.conftest import FEATURES

    cold = {**records["test"][-1], "history": []}
    test = [
        {**records["test"][0], "target": ["i3"]},
        {**cold, "user_id": "a", "target": ["i0", "i4", "i9"]},
        {**cold, "user_id": "b", "target": ["i9", "i5"]},
    ]
    small = {"train": records["train"], "val": records["val"], "test": test}
    dataset = prepare_tables(small, FEATURES, tmp_path / "both", max_history=8)

    class Fixed:
        def recommend(self, batch, k):
            items = read(dataset.vocabularies["items"])
            order = ["i9", "i0", "i7", *(i for i in items if i not in ("i9", "i0", "i7"))]
            return np.tile([items.index(i) + 2 for i in order], (len(batch["is_cold"]), 1))[:, :k]

    from cmclrec_tf.data.vocabulary import read

    report = evaluate(Fixed(), dataset, ks=(3,))
    assert report.is_cold.tolist() == [False, True, True]
    assert report.ranks[1] == 1 and report.users["recall@3"].tolist() == [0, 1, 0]
    row = report.rows["cold"]
    assert row["recall@3"] == row["ndcg@3"] == 1 / 2
    assert row["recall_all@3"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    discounts = 1 / np.log2([2, 3, 4])
    of_a, of_b = discounts[:2].sum() / discounts.sum(), 1 / discounts[:2].sum()
    assert row["ndcg_all@3"] == pytest.approx((of_a + of_b) / 2)
    assert "recall_all@3" not in report.rows["overall"]
    assert report.rows["overall"]["recall@3"] == pytest.approx(1 / 3)


def _repeat_users(records, tmp_path):
    """Two warm users whose target is in their history, and one cold user, whose history is not."""
    from cmclrec_tf.data.in_memory import prepare_tables
    from tests.conftest import FEATURES

    warm, cold = records["test"][0], {**records["test"][-1], "history": []}
    test = [
        {**warm, "user_id": "again", "history": ["i1", "i3", "i5"], "target": ["i3"]},
        {**warm, "user_id": "older", "history": ["i4", *["i1"] * 8], "target": ["i4"]},
        {**warm, "user_id": "unknown", "history": ["new", "i1"], "target": ["new"]},
        {**warm, "user_id": "fresh", "history": ["i1"], "target": ["i2"]},
        {**cold, "target": ["i3", "i3"]},
    ]
    small = {"train": records["train"], "val": records["val"], "test": test}
    return prepare_tables(small, FEATURES, tmp_path / "repeats", max_history=8)


def test_users_whose_target_is_in_their_history_are_counted_and_missed(records, tmp_path):
    """An item that is older than the L newest ones does not count, as it is not left out either."""
    dataset = _repeat_users(records, tmp_path)
    report = evaluate(Popularity(dataset), dataset, ks=(40,))
    assert {segment: row["repeats"] for segment, row in report.rows.items()} == {
        "overall": 1,
        "warm": 1,
        "cold": 0,
    }
    assert report.ranks[0] == 0 and (report.ranks[[1, 3, 4]] > 0).all()


def test_users_without_any_target_repeat_nothing():
    from cmclrec_tf.evaluation.report import _is_repeat

    batch = {
        "history": ops.convert_to_tensor([[2, 3], [4, 5]], "int32"),
        "target": ops.zeros((2, 0), "int32"),
        "is_cold": ops.convert_to_tensor([False, True]),
    }
    assert _is_repeat(batch).tolist() == [False, False]


@pytest.mark.usefixtures("eager")
def test_every_recommender_and_validation_obey_seen_items(records, config, tmp_path):
    dataset = _repeat_users(records, tmp_path)
    batch = next(iter(dataset.batches("test", 8)))
    again = int(batch["target"][0, 0])
    model = CMCLRec(
        dataset.schema, config.changed({"evaluate.seen_items": "keep", "evaluate.k": 50})
    )
    assert again in np.asarray(model.recommend(batch, 20))[0]
    assert float(model.validation_of(batch)["ndcg_warm"][0]) > 0
    for hides in (True, False):
        floors = [
            Popularity(dataset, hides_history=hides),
            Random(dataset, hides_history=hides),
            FeatureKNN(dataset, neighbours=9, hides_history=hides),
            FeatureMLP(dataset.schema, FeatureMLPConfig(hides_history=hides)),
        ]
        for floor in floors:
            listed = np.asarray(floor.recommend(batch, 20))[0]
            assert (again in listed) != hides, type(floor).__name__


def test_table_shows_every_segment(dataset):
    rows = evaluate(Popularity(dataset), dataset, ks=(20,)).rows
    text = table({"popularity": rows, "empty": {}})
    assert text.splitlines()[0].split() == ["warm", "cold", "overall"]
    assert f"{rows['cold']['recall@20']:.4f}" in text and " - " in text

"""The floors: the feature MLP against NumPy, random lists, and the items they leave out."""

import keras
import numpy as np
import pytest

from cmclrec_tf.baselines.feature_mlp import FeatureMLPConfig, read_split, train_feature_mlp
from cmclrec_tf.baselines.item_sets import NDCG, decayed_next_items, soft_next_items
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.baselines.random import Random
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.vocabulary import read
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate, metrics
from tests.conftest import FEATURES, cluster_users

RNG = np.random.default_rng(5)
SMALL = {
    "width": 8,
    "hidden": 16,
    "epochs": 25,
    "batch_size": 32,
    "learning_rate": 0.01,
    "patience": 25,
    "k": 5,
}


@pytest.fixture(scope="module", params=["all", "last", "decayed"])
def mlp(request, dataset):
    return train_feature_mlp(dataset, FeatureMLPConfig(events=request.param, **SMALL))


def _batch(dataset, split="test"):
    return next(iter(dataset.batches(split, 64)))


def test_the_loss_is_the_cross_entropy_of_soft_targets():
    scores = RNG.normal(size=(3, 9)).astype("float32")
    items = np.array([[2, 5, 8], [4, 0, 0], [3, 7, 0]])
    exps = np.exp(scores)
    log_p = np.log(exps / exps.sum(axis=1, keepdims=True))
    soft = np.zeros((3, 9))
    for row, ids in zip(soft, items, strict=True):
        row[ids[ids > 0]] = 1 / (ids > 0).sum()
    expected = -(soft * log_p).sum(axis=1)
    np.testing.assert_allclose(soft_next_items(items, scores), expected, rtol=1e-5)


def test_decayed_targets_weigh_the_newest_event_most():
    scores = RNG.normal(size=(2, 6)).astype("float32")
    items = np.array([[0, 3, 5, 3], [0, 0, 0, 4]])  # the newest event is the last one
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    soft = np.zeros((2, 6))
    soft[0, 3], soft[0, 5] = np.array([1 + 0.8**2, 0.8]) / (1 + 0.8 + 0.8**2)
    soft[1, 4] = 1.0
    expected = -(soft * log_p).sum(axis=1)
    np.testing.assert_allclose(decayed_next_items(items, scores), expected, rtol=1e-5)


def test_decayed_items_are_those_of_the_events_in_order(dataset, records):
    _, items = read_split(dataset, "train", "decayed")
    names = np.array(["", "", *read(dataset.vocabularies["items"])])
    users = {user["user_id"]: user for user in records["train"]}
    for row, user_id in zip(items, dataset.user_ids("train"), strict=True):
        events = users[user_id]["history"] + users[user_id]["target"]
        assert names[row[row > 0]].tolist() == events and row[-1] > 0


def test_its_ndcg_is_that_of_the_evaluation():
    scores = RNG.normal(size=(40, 30)).astype("float32")
    rows = [RNG.choice(np.arange(1, 30), RNG.integers(1, 12), replace=False) for _ in range(40)]
    items = np.zeros((40, 12), np.int32)
    for padded, row in zip(items, rows, strict=True):
        padded[: len(row)] = row
    ndcg = NDCG(5)
    ndcg.update_state(items, scores)
    hit, n = metrics.hits(np.argsort(-scores, axis=1)[:, :5], rows)  # no row holds PAD
    assert float(ndcg.result()) == pytest.approx(metrics.ndcg(hit, n, 5).mean(), rel=1e-5)


@pytest.mark.parametrize("events", ["all", "last"])
def test_a_split_in_memory(dataset, records, events):
    features, items = read_split(dataset, "train", events)
    names = np.array(["", "", *read(dataset.vocabularies["items"])])
    users = {user["user_id"]: user for user in records["train"]}
    for i, user_id in enumerate(dataset.user_ids("train")):
        user = users[user_id]
        expected = user["target"] if events == "last" else user["history"] + user["target"]
        assert sorted(names[items[i][items[i] > 0]]) == sorted(set(expected))
        age = features["age"][i, 0]
        assert np.isnan(age) if user["age"] is None else age == user["age"]
        assert (features["tags"][i] > 0).sum() == len(user["tags"])


@pytest.fixture(scope="module")
def many_cold(records, tmp_path_factory):
    """The same dataset with 200 cold test users; the 16 of `dataset` are few to compare models."""
    records = {**records, "test": cluster_users("c", 200, 4, "cold")}
    return prepare_tables(records, FEATURES, tmp_path_factory.mktemp("many") / "d", max_history=8)


def test_it_learns_from_features(mlp, many_cold):
    cold = evaluate(mlp, many_cold, ks=(5,)).rows["cold"]
    counted = "all" if mlp.settings.events == "decayed" else mlp.settings.events
    floor = evaluate(Popularity(many_cold, counted), many_cold, ks=(5,)).rows["cold"]
    # The team decides which ten of the twenty items a user takes.
    assert cold["recall@5"] > 1.3 * floor["recall@5"]
    assert cold["jaccard@5"] < 0.8


def test_a_list_leaves_out_the_history_of_warm_users_only(mlp, dataset):
    batch = _batch(dataset)
    warm = {**batch, "is_cold": np.zeros(len(batch["is_cold"]), bool)}
    for ids, history in zip(mlp.recommend(warm, 10), batch["history"].numpy(), strict=True):
        listed = np.asarray(ids)
        assert not set(listed[listed > 0]) & set(history)
    cold = np.asarray(mlp.recommend({**batch, "is_cold": ~warm["is_cold"]}, 20))
    assert all(len(set(row)) == 20 and row.min() > 1 for row in cold)
    lists = mlp.recommend({**batch, "history": np.full((32, 8), 2)}, 20)
    assert (np.asarray(lists)[~batch["is_cold"].numpy()] != 2).all()


def test_it_is_saved_and_loaded(mlp, dataset, tmp_path):
    mlp.save(tmp_path / "mlp.keras")
    loaded = keras.saving.load_model(tmp_path / "mlp.keras")
    batch = _batch(dataset)
    np.testing.assert_array_equal(loaded.recommend(batch, 20), mlp.recommend(batch, 20))
    assert loaded.settings == mlp.settings


def test_unknown_events_are_rejected():
    with pytest.raises(InputError, match="all.*last"):
        FeatureMLPConfig(events="lst")


def test_random_lists(dataset):
    batch = _batch(dataset)
    ids = np.asarray(Random(dataset, 3).recommend(batch, 10))
    for row, history, cold in zip(ids, batch["history"], batch["is_cold"], strict=True):
        assert len(set(row)) == 10 and row.min() > 1
        assert cold or not set(row) & set(np.asarray(history))
    # The list depends on user and seed, not on the batch; other users have other lists.
    one = {name: value[5:6] for name, value in batch.items() if name != "features"}
    np.testing.assert_array_equal(Random(dataset, 3).recommend(one, 10)[0], ids[5])
    assert (np.asarray(Random(dataset, 4).recommend(batch, 10)) != ids).any()
    assert len({tuple(row) for row in ids}) > 30

"""The two towers: what they read, how they recommend, and one training in a process of its own."""

import importlib.util

import numpy as np
import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.schema import MULTI, NUMERIC, Feature, Schema
from experiments.table_rows import parse_rows
from experiments.two_tower import tower_config, tower_inputs, two_tower
from experiments.two_tower.tower_config import TwoTowerConfig
from tests.experiments.toy import prepare

TEAM, TAGS = Feature("team", size=4), Feature("tags", MULTI, size=5)
TASTE = Feature("taste", NUMERIC, mean=1.0, scale=2.0, numbers=2, clip=(-3.0, 9.0))
SCHEMA = Schema((TEAM, TAGS, TASTE), items=6)
FEATURES = {
    "team": np.array([[3], [0]], np.int32),  # PAD is a missing value
    "tags": np.array([[2, 4], [0, 0]], np.int32),
    "taste": np.array([[3.0, -9.0], [np.nan, 1.0]], np.float32),
}
HISTORY = np.array([[0, 2, 5], [4, 1, 3]], np.int32)


def test_user_features_are_weighted_rows_of_one_table():
    slots = tower_inputs.slots(FEATURES, SCHEMA)
    assert tower_inputs.table_size(SCHEMA) == 4 + 5 + 3
    assert slots.fields.tolist() == [0, 1, 1, 2, 2, 2]
    # -9 is clipped to -3, which is two standard deviations below the mean.
    expected = [
        {3: 1.0, 4 + 2: 0.5, 4 + 4: 0.5, 9 + 1: 1.0, 9 + 2: -2.0},
        {0: 1.0, 4 + 0: 1.0, 9 + 0: 1.0},
    ]
    for ids, weights, values in zip(slots.ids, slots.weights, expected, strict=True):
        used = {int(i): float(w) for i, w in zip(ids, weights, strict=True) if w}
        assert used == values


def test_a_number_with_bins_is_the_row_of_its_bin():
    income = Feature("income", NUMERIC, bins=3, quantiles=(10.0, 20.0))
    values = np.array([[-5.0], [10.0], [99.0], [np.nan]], np.float32)
    slots = tower_inputs.slots({"income": values}, Schema((income,), items=6))
    assert slots.ids.tolist() == [[2], [3], [4], [0]] and (slots.weights == 1).all()
    assert tower_inputs.table_size(Schema((income,), items=6)) == 5


def test_pairs_are_known_items_and_their_places():
    events = np.array([[0, 3, 1, 4], [0, 0, 2, 1]], np.int32)
    assert tower_inputs.pairs(events, "all").tolist() == [[0, 1], [0, 3], [1, 2]]
    assert tower_inputs.pairs(events, "last").tolist() == [[0, 3]]


@pytest.fixture
def towers():
    """Two towers with random parameters of D = 4, two numbers a feature and a hidden layer of 7."""
    rng = np.random.default_rng(0)
    shapes = {"slots": (12, 2), "items": (6, 4), "inner": (3 * 2 + 4 + 1, 7), "inner_bias": (7,)}
    shapes |= {"outer": (7, 4), "outer_bias": (4,)}
    parameters = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    parameters["counts"] = np.array([0, 0, 3, 1, 2, 4])
    settings = TwoTowerConfig(width=4, feature_width=2, hidden=7)
    return two_tower.TwoTower(SCHEMA, settings, parameters), parameters


def _batch(is_cold, history=HISTORY):
    return {"features": FEATURES, "history": history, "is_cold": np.array(is_cold)}


def test_a_query_is_made_of_features_and_the_mean_of_the_history(towers):
    model, p = towers
    features = [
        [p["slots"][3], (p["slots"][6] + p["slots"][8]) / 2, p["slots"][10] - 2 * p["slots"][11]],
        [p["slots"][0], p["slots"][4], p["slots"][9]],
    ]
    means = [(p["items"][2] + p["items"][5]) / 2, (p["items"][4] + p["items"][3]) / 2]
    for user in range(2):
        for is_cold in (False, True):
            mean, flag = (np.zeros(4), 0.0) if is_cold else (means[user], 1.0)
            inputs = np.concatenate([*features[user], mean, [flag]])
            hidden = np.maximum(inputs @ p["inner"] + p["inner_bias"], 0)
            state = model.states(_batch([is_cold] * 2))[user]
            np.testing.assert_allclose(state, hidden @ p["outer"] + p["outer_bias"], rtol=1e-5)


def test_a_cold_user_is_one_without_a_history(towers):
    model, _ = towers
    nothing = model.states(_batch([False, False], np.zeros_like(HISTORY)))
    cold = model.states(_batch([True, True]))
    np.testing.assert_array_equal(cold, nothing)
    assert np.abs(cold - model.states(_batch([False, False]))).min() > 0
    lists = np.asarray(model.recommend(_batch([False, False]), 4))
    assert set(lists[0]) == {3, 4, 0} and set(lists[1]) == {2, 5, 0}  # PAD where nothing is left
    assert np.asarray(model.logits(_batch([False, True])))[:, :2].max() < -1e8


def test_an_item_without_a_pair_is_never_listed(towers):
    model, parameters = towers
    few = {**parameters, "counts": np.array([0, 0, 3, 1, 2, 0])}
    towers = two_tower.TwoTower(SCHEMA, model.settings, few)
    lists = towers.recommend(_batch([True, True]), 4)
    assert all(sorted(row) == [0, 2, 3, 4] for row in np.asarray(lists).tolist())
    # Its share is that of half a pair of six.
    shares = np.exp(towers.logits(_batch([True, True])))
    np.testing.assert_allclose(shares[:, 5] / shares[:, 2:5].sum(axis=1), 0.5 / 6, rtol=1e-5)
    assert (shares[:, :2] == 0).all()


def test_without_the_library_the_rows_are_refused_at_once(monkeypatch):
    find = importlib.util.find_spec
    missing = "tensorflow_recommenders"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == missing else find(name)
    )
    with pytest.raises(InputError, match=r"experiments.*--models"):
        parse_rows(["popularity", "two-tower"], "my-data")
    parse_rows(["popularity", "sasrec"], "my-data")


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, tower_config.LIBRARIES)),
    reason="TensorFlow Recommenders is not installed",
)
@pytest.mark.parametrize("name", ["two-tower", "two-tower-last"])
def test_a_training_in_a_process_of_its_own(name, tmp_path):
    prepare(tmp_path / "toy", 0)
    dataset = PreparedDataset.load(tmp_path / "toy")
    config = Config.from_dict({"data": {"max_history": 6}})
    (row,) = parse_rows([f"{name}:epochs=3+epoch_steps=60+learning_rate=0.01"], "toy", config)
    model = row.train(dataset)
    # Both processes see the same lists: NDCG by our metrics, Recall by FactorizedTopK.
    rows = evaluate(model, dataset, "val", ks=(20,)).rows
    assert rows["warm"]["ndcg@20"] == pytest.approx(model.validation["ndcg_warm"], abs=1e-6)
    assert row.validate(model, dataset) == model.validation["ndcg"]
    hits = []
    for batch in dataset.batches("val", 999):
        batch["is_cold"] = np.ones_like(batch["is_cold"])
        batch["history"] = np.zeros_like(batch["history"])
        lists = np.asarray(model.recommend(batch, 20))
        hits += (lists == batch["target"].numpy()).any(axis=1).tolist()
    assert np.mean(hits) == pytest.approx(model.validation["factorized_top_k"], abs=1e-6)
    # Every user takes items of one third of the catalogue, which the feature names.
    test = evaluate(model, dataset, ks=(20,)).rows
    assert test["cold"]["log_likelihood"] > np.log(1 / (dataset.schema.items - 2))
    assert test["cold"]["recall_all@20"] > 0.4 and test["warm"]["recall@20"] > 0.4

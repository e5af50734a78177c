"""Similarity of users by features, and the baselines built on it, recomputed in NumPy."""

import numpy as np
import pytest

from cmclrec_tf.baselines.feature_knn import FeatureKNN
from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.schema import MULTI, NUMERIC, Feature
from tests.unit.baseline_cases import built

FIELDS = (
    Feature("team", size=9),
    Feature("tags", MULTI, size=9),
    Feature("age", NUMERIC, mean=30.0, scale=10.0),
)


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32, shuffle=False)))


def neighbours_of(users, most):
    layer = Neighbours(FIELDS, len(users), 3, most)
    layer.keys.assign([u[0] for u in users])
    layer.events.assign([u[1] for u in users])
    for at, field in enumerate(("team", "tags", "age"), start=2):
        values = np.array([np.resize(u[at], (8,)) if field == "tags" else [u[at]] for u in users])
        layer.fields[field].assign(values)
    return layer


def test_neighbours_agree_in_most_fields():
    users = [
        (1, [0, 2, 3], 4, [5, 0], 30.0),
        (2, [0, 4, 5], 4, [6, 7], 40.0),
        (3, [6, 7, 8], 3, [0, 0], np.nan),
        (4, [0, 0, 9], 1, [1, 1], 90.0),
    ]
    layer = neighbours_of(users, 3)
    query = {"team": [[4]], "tags": [[7, 5]], "age": [[20.0]]}

    def as_arrays(values):
        return {n: np.array(v, "float32" if n == "age" else "int32") for n, v in values.items()}

    similarity, events = layer(as_arrays(query))
    expected = [2 + np.exp(-1), 2 + np.exp(-2), np.exp(-7)]
    np.testing.assert_allclose(similarity, [expected], rtol=1e-5)
    np.testing.assert_array_equal(events, [[[0, 2, 3], [0, 4, 5], [0, 0, 9]]])
    # A user is not their own neighbour, and an unknown value (1) equals no other value.
    similarity, events = layer(as_arrays(query), np.array([1]))
    np.testing.assert_array_equal(events[0, 0], [0, 4, 5])
    nothing = {"team": [[1]], "tags": [[0, 1]], "age": [[np.nan]]}
    similarity, events = layer(as_arrays(nothing))
    assert not np.any(similarity) and not np.any(events)


def test_neighbours_are_train_users(dataset):
    layer = Neighbours(dataset.schema.features, 120, 9, 5)
    layer.learn(dataset)
    known = {
        key: tuple(row)
        for b in dataset.batches("train", 32)
        for key, row in zip(
            b["user_key"].numpy(), np.concatenate([b["history"], b["target"]], 1), strict=True
        )
    }
    kept = dict(zip(np.asarray(layer.keys), map(tuple, np.asarray(layer.events)), strict=True))
    assert kept.pop(-1) == (0,) * 9  # 96 users in 120 places
    assert kept == known


def test_sdcrec_weighs_neighbours_by_the_item(dataset, batch):
    model = built("sdcrec", dataset, batch, neighbours=3)
    states = model({**batch, "is_cold": np.zeros(32, bool)})
    table, w = np.asarray(model.table), np.asarray(model.relation.kernel)
    _, events = model.graph({name: value[:1] for name, value in batch["features"].items()})
    own, around = batch["history"][:1], np.asarray(events)[0]
    n = np.concatenate([model.preferences(own), model.preferences(around)])
    match = np.exp(n @ w @ table.T / 4.0)
    expected = (match / match.sum(axis=0) * (n @ table.T)).sum(axis=0)
    np.testing.assert_allclose(np.asarray(model.score(states))[0, 2:], expected[2:], atol=1e-5)
    # Without a history the neighbours alone.
    cold = np.asarray(model.score(model.cold_states(batch["features"])))[0, 2:]
    expected = (match[1:] / match[1:].sum(axis=0) * (n @ table.T)[1:]).sum(axis=0)
    np.testing.assert_allclose(cold, expected[2:], atol=1e-5)


def test_more_neighbours_than_stored_users_are_rejected():
    with pytest.raises(InputError, match="neighbours=9"):
        Config.from_dict({"baseline": {"neighbours": 9, "graph_users": 8}})


@pytest.mark.parametrize("events", ["all", "last"])
def test_feature_knn_counts_the_items_of_neighbours(dataset, batch, events):
    model = FeatureKNN(dataset, events, neighbours=7)
    cold = {**batch, "is_cold": np.ones(32, bool)}
    found = np.asarray(model.recommend(cold, 5))
    similarity, items = (np.asarray(x)[4] for x in model.neighbours(batch["features"]))
    scores = np.zeros(dataset.schema.items)
    for s, row in zip(similarity, items[:, -1:] if events == "last" else items, strict=True):
        for item in row[row > 1]:
            scores[item] += s
    np.testing.assert_allclose(scores[found[4]], np.sort(scores)[::-1][:5], rtol=1e-5)
    own = evaluate(model, dataset, ks=(5,)).rows["cold"]
    assert own["recall@5"] > 0.3 and own["jaccard@5"] < 0.8


def test_feature_knn_rejects_unknown_events(dataset):
    with pytest.raises(InputError, match="events='first'"):
        FeatureKNN(dataset, "first")

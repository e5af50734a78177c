"""Tests that every baseline of another paper must pass, and their equations in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest

from cmclrec_tf import baselines
from cmclrec_tf.baselines.factors import PreferenceVectors
from cmclrec_tf.baselines.heater import MixtureOfExperts
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.baselines.training import train_baseline
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from tests.conftest import TINY

RNG = np.random.default_rng(11)
SETTINGS = {
    **TINY,
    "finetune": {**TINY["finetune"], "epochs": 12, "epoch_steps": 6, "negatives": 32},
    "baseline": {"hidden": 16, "sweeps": 4, "graph_users": 64},
}


@pytest.fixture(scope="module")
def settings():
    return Config.from_dict(SETTINGS)


QUICK = ("dropout-net", "heater")
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in baselines.names() if n not in QUICK]


@pytest.fixture(scope="module", params=[*QUICK, *SLOW])
def trained(request, dataset, settings):
    return train_baseline(request.param, dataset, settings)


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("test", 64)))


def test_it_learns_both_segments(trained, dataset, batch):
    rows = evaluate(trained, dataset, ks=(5,)).rows
    floor = Popularity(dataset)
    # Features and histories both reveal the team, and a team takes ten of the twenty items.
    popular = evaluate(floor, dataset, ks=(5,)).rows
    assert rows["warm"]["recall@5"] > 1.2 * popular["warm"]["recall@5"]
    assert _cold_recall(trained, batch) > 1.2 * _cold_recall(floor, batch)
    assert rows["cold"]["jaccard@5"] < 0.8


def _cold_recall(model, batch):
    """Returns Recall@5 of all test users without their histories."""
    cold = {**batch, "is_cold": np.ones(32, bool), "history": np.zeros((32, 8), np.int32)}
    lists = np.asarray(model.recommend(cold, 5))
    return (lists == np.asarray(batch["target"])[:, :1]).any(axis=1).mean()


def test_a_cold_row_is_served_from_features_alone(trained, batch):
    cold = {**batch, "is_cold": np.ones(32, bool)}
    other = {**cold, "history": np.full((32, 8), 5, np.int32)}
    np.testing.assert_allclose(trained(cold), trained(other), atol=1e-6)
    np.testing.assert_allclose(trained.cold_states(batch["features"]), trained(cold), atol=1e-5)


def test_padding_changes_nothing(trained, batch):
    warm = {**batch, "is_cold": np.zeros(32, bool)}
    padded = {**warm, "history": np.pad(batch["history"], [[0, 0], [3, 0]])}
    np.testing.assert_allclose(trained(padded), trained(warm), atol=1e-4)


def test_a_history_alone_is_enough(trained, batch):
    states = trained.warm_states(batch["history"])
    scores = np.asarray(trained.score(states))
    assert np.isfinite(scores).all() and (scores[:, :2] < -1e8).all()


def test_it_is_saved_and_loaded(trained, batch, tmp_path):
    trained.save(tmp_path / "baseline.keras")
    loaded = keras.saving.load_model(tmp_path / "baseline.keras")
    np.testing.assert_array_equal(loaded.recommend(batch, 10), trained.recommend(batch, 10))


def test_a_resumed_training_ends_with_the_same_weights(dataset, settings, tmp_path):
    """The factors that `prepare` learned are included."""
    short = _changed(settings, epochs=3)
    whole = train_baseline("heater", dataset, short, checkpoint_dir=tmp_path).get_weights()
    newest = max((tmp_path / "heater").glob("epoch-*.npz"))
    newest.unlink()
    again = train_baseline("heater", dataset, short, checkpoint_dir=tmp_path).get_weights()
    for a, b in zip(again, whole, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "values", [{"withheld": 1.5}, {"experts": 0}, {"sweeps": 0}, {"similarity": -1.0}]
)
def test_wrong_settings(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Config.from_dict({"baseline": values})


def test_preference_vectors_solve_the_least_squares_problem(dataset):
    layer = PreferenceVectors(dataset.schema.items, 6, regularisation=0.5, confidence=3.0, sweeps=2)
    layer.learn(dataset)
    v = np.asarray(layer.table, np.float64)
    history = np.array([[0, 0, 4, 9, 13], [0, 0, 0, 0, 0]])
    found = np.asarray(layer(history))
    p = np.zeros(len(v))
    p[[4, 9, 13]] = 1
    c = np.diag(1 + 3.0 * p)
    expected = np.linalg.solve(v.T @ c @ v + 0.5 * np.eye(6), v.T @ c @ p)
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found[1], np.zeros(6))
    assert found[0] @ v[[4, 9, 13]].T @ np.ones(3) > 3 * np.abs(found[0] @ v.T).mean()


def test_more_sweeps_fit_better(dataset):
    losses = []
    for sweeps in (1, 6):
        layer = PreferenceVectors(dataset.schema.items, 4, 0.1, 5.0, sweeps)
        layer.learn(dataset)
        losses.append(_objective(layer, dataset))
    assert losses[1] < losses[0]


def test_deep_music_is_a_regression_onto_the_preference_vectors(dataset, settings):
    model, batch = _prepared("deep-music", dataset, settings)
    items = np.concatenate([batch["history"], batch["target"][:, :1]], axis=1)
    u = np.asarray(model.preferences(items))
    states = np.asarray(model.cold_states(batch["features"]))
    expected = ((states - u) ** 2).sum(axis=1).mean()
    assert float(model.losses_of(batch)["loss"]) == pytest.approx(expected, rel=1e-4)
    warm = model.warm_states(batch["history"])
    np.testing.assert_allclose(warm, model.preferences(batch["history"]), atol=1e-6)


def test_dropout_net_reproduces_the_scores_of_the_factors(dataset, settings):
    model, batch = _prepared("dropout-net", dataset, _with_few_negatives(settings))
    items = np.concatenate([batch["history"], batch["target"][:, :1]], axis=1)
    u, v = np.asarray(model.preferences(items)), np.asarray(model.preferences.table)
    x = np.asarray(model.flat_tokens(batch["features"]))
    states = np.asarray(model.user_network(np.concatenate([u, x], axis=1)))
    ids = np.asarray(batch["target"])[:, 0]
    _same_score_loss(model, batch, states, u, v, ids)


def test_withheld_users_are_cold_users(dataset, settings):
    everyone = dataclasses.replace(settings.baseline, withheld=1.0)
    everyone = dataclasses.replace(settings, baseline=everyone)
    everyone = _changed(everyone, feature_dropout=0.0)
    for name in ("dropout-net", "heater"):
        model, batch = _prepared(name, dataset, everyone)
        seen = []
        loss = model.score_loss
        model.score_loss = lambda states, *rest, seen=seen, loss=loss: (
            seen.append(np.asarray(states)) or loss(states, *rest)
        )
        model.losses_of(batch, training=True)
        np.testing.assert_allclose(seen[0], model.cold_states(batch["features"]), atol=1e-5)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 0.22, 0.38), (1.0, 1, 1)])
def test_the_withheld_share(dataset, settings, share, low, high):
    baseline = dataclasses.replace(settings.baseline, withheld=share)
    model = _new("clcrec", dataset, dataclasses.replace(settings, baseline=baseline))
    is_cold = np.arange(500) < 50
    found = np.asarray(model.withheld_rows({"is_cold": is_cold}, training=True))
    assert found[is_cold].all() and low <= found[~is_cold].mean() <= high
    np.testing.assert_array_equal(model.withheld_rows({"is_cold": is_cold}), is_cold)


def test_heater_mixes_experts():
    layer = MixtureOfExperts(3, 4)
    x = RNG.normal(size=(5, 7)).astype("float32")
    found = np.asarray(layer(x))
    gates, gate_bias, experts, expert_bias = (np.asarray(w) for w in layer.weights)
    expected = np.zeros((5, 4))
    for k in range(3):
        part = slice(4 * k, 4 * k + 4)
        expert = np.tanh(x @ experts[:, part] + expert_bias[part])
        expected += np.tanh(x @ gates[:, k] + gate_bias[k])[:, None] * expert
    np.testing.assert_allclose(found, np.tanh(expected), atol=1e-5)


def test_heater_keeps_transformed_features_close_to_the_preference_vectors(dataset, settings):
    model, batch = _prepared("heater", dataset, settings)
    items = np.concatenate([batch["history"], batch["target"][:, :1]], axis=1)
    u = np.asarray(model.preferences(items))
    transformed = np.asarray(model.transform(model.flat_tokens(batch["features"])))
    expected = ((transformed - u) ** 2).sum(axis=1).mean()
    losses = model.losses_of(batch)
    assert float(losses["loss/similarity"]) == pytest.approx(expected, rel=1e-4)
    total = float(losses["loss/scores"]) + model.config.baseline.similarity * expected
    assert float(losses["loss"]) == pytest.approx(total, rel=1e-4)


def _new(name, dataset, settings):
    return baselines.create(name, dataset.schema, settings)


def _prepared(name, dataset, settings):
    """Returns a prepared, untrained baseline and a train batch."""
    model = _new(name, dataset, settings)
    model.prepare(dataset)
    batch = next(iter(dataset.batches("train", 32, shuffle=False)))
    model(batch)
    return model, batch


def _changed(settings, **finetune):
    return dataclasses.replace(
        settings, finetune=dataclasses.replace(settings.finetune, **finetune)
    )


def _with_few_negatives(settings):
    return _changed(settings, negatives=1)


def _same_score_loss(model, batch, states, u, v, ids):
    """One item is sampled in addition to the targets: the loss must be that of one of them."""
    items = np.asarray(model.item_network(v))
    possible = []
    for sampled_id in range(2, len(v)):
        columns = np.append(ids, sampled_id)
        difference = states @ items[columns].T - u @ v[columns].T
        possible.append((difference**2).mean())
    found = float(model.losses_of(batch)["loss/scores"])
    assert np.isclose(possible, found, rtol=1e-4).any()


def _objective(layer, dataset):
    """Returns the sum that the factorisation minimises, with user vectors from the histories."""
    v, total = np.asarray(layer.table), 0.0
    for batch in dataset.batches("train", 64, shuffle=False):
        items = np.concatenate([batch["history"], batch["target"][:, :1]], axis=1)
        u = np.asarray(layer(items))
        for row, ids in zip(u, items, strict=True):
            p = np.bincount(ids[ids > 1], minlength=len(v)) > 0
            total += ((1 + 5.0 * p) * (p - v @ row) ** 2).sum() + 0.1 * row @ row
    return total + 0.1 * (v**2).sum()

"""The defining ideas of MetaEmbedding, MetaTL and MWUF, recomputed in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.baselines import meta
from tests.unit.baseline_cases import built, log_sum


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32, shuffle=False)))


def sampled_loss(state, items, table, ids, log_q):
    """Returns the mean loss of items among `ids`, and its gradient with respect to the state."""
    loss, slope = 0.0, 0.0
    for item in items:
        rivals = ids[ids != item]
        v = table[np.append(item, rivals)]
        scores = v @ state - np.append(0, log_q[rivals] + np.log(len(ids)))
        share = np.exp(scores) / np.exp(scores).sum()
        loss += (log_sum(scores) - scores[0]) / len(items)
        slope += (share @ v - table[item]) / len(items)
    return loss, slope


def test_meta_embedding_steps_from_what_features_generate(dataset, batch):
    model = built("meta-embedding", dataset, batch, inner_rate=0.5)
    tokens = model.flat_tokens(batch["features"])
    generated = np.asarray(model.generator(tokens))
    np.testing.assert_allclose(model.cold_states(batch["features"]), generated, atol=1e-6)
    states = np.asarray(model({**batch, "is_cold": np.zeros(32, bool)}))
    table, (ids, log_q) = (
        np.asarray(model.table),
        map(np.asarray, meta.spread_negatives(12, dataset.schema.items)),
    )
    for row, history in enumerate(np.asarray(batch["history"])):
        _, slope = sampled_loss(generated[row], history[history > 1], table, ids, log_q)
        np.testing.assert_allclose(states[row], generated[row] - 0.5 * slope, atol=1e-5)


def test_meta_embedding_weighs_the_loss_before_and_after(dataset, batch):
    model = built("meta-embedding", dataset, batch, cold_loss=0.25, inner_rate=0.5)
    found = {name: float(value) for name, value in model.losses_of(batch).items()}
    total = 0.25 * found["loss/cold_phase"] + 0.75 * found["loss/warm_phase"]
    assert found["loss"] == pytest.approx(total, rel=1e-5)
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch)["loss/warm_phase"]
    # The loss after the step reaches the generator, through the step.
    slopes = tape.gradient(loss, [w.value for w in model.generator.trainable_variables])
    assert all(np.abs(slope).max() > 0 for slope in slopes)


def test_a_step_lowers_the_loss(dataset, batch):
    model = built("meta-embedding", dataset, batch, inner_rate=0.1)
    negatives, history = meta.spread_negatives(12, dataset.schema.items), batch["history"]
    settings = model.config.baseline
    states = model.cold_states(batch["features"])
    after, before = meta.adapt_states(states, model.items, history, negatives, settings)
    _, then = meta.adapt_states(after, model.items, history, negatives, settings)
    assert (np.asarray(then) < np.asarray(before)).all()


def test_mwuf_scales_and_shifts(dataset, batch):
    model = built("mwuf", dataset, batch)
    history = np.asarray(batch["history"])
    table = np.asarray(model.preferences.table) / model.config.baseline.temperature
    np.testing.assert_allclose(model.table, table, rtol=1e-5)
    scale = np.asarray(model.scale(model.flat_tokens(batch["features"])))
    mean = np.stack([table[ids[ids > 1]].mean(axis=0) for ids in history])
    expected = np.asarray(model.preferences(history)) * scale + np.asarray(model.shift(mean))
    np.testing.assert_allclose(model({**batch, "is_cold": np.zeros(32, bool)}), expected, atol=1e-5)
    cold = np.asarray(model.common) * scale + np.asarray(model.shift(np.zeros_like(mean)))
    np.testing.assert_allclose(model.cold_states(batch["features"]), cold, atol=1e-5)


def test_mwufs_common_start_is_the_mean_of_the_train_users(dataset, batch):
    model = built("mwuf", dataset, batch)
    vectors = []
    for part in dataset.batches("train", 7, shuffle=False):
        items = np.concatenate([part["history"], part["target"][:, :1]], axis=1)
        vectors.append(np.asarray(model.preferences(items)))
    np.testing.assert_allclose(model.common, np.concatenate(vectors).mean(axis=0), atol=1e-5)


def test_mwuf_trains_the_two_networks_alone(dataset, batch):
    model = built("mwuf", dataset, batch)
    trained = {id(v) for v in model.trainable_variables}
    fixed = (model.common, *model.preferences.weights)
    assert not trained & {id(v) for v in fixed}
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch, training=True)["loss"]
    networks = [*model.scale.trainable_variables, *model.shift.trainable_variables]
    assert all(slope is not None for slope in tape.gradient(loss, [w.value for w in networks]))


def test_meta_tl_translates_the_last_item(dataset, batch):
    model = built("meta-tl", dataset, batch, inner_rate=0.5)
    model.start.assign(np.linspace(-1, 1, 16))
    history = np.asarray(batch["history"]).copy()
    history[1, :-1] = 0  # one event: no transition
    history[2, -1] = 1  # an unknown item last
    states = np.asarray(model({**batch, "history": history, "is_cold": np.zeros(32, bool)}))
    table = np.asarray(model.table)
    without = np.asarray(model.without(model.flat_tokens(batch["features"])))
    ids, log_q = map(np.asarray, meta.spread_negatives(12, dataset.schema.items))
    for row in range(4):
        steps = [(i, j) for i, j in zip(history[row], history[row, 1:], strict=False) if i > 1 < j]
        t, slope = without[row], 0
        if steps:
            pairs = np.array([np.concatenate([table[i], table[j]]) for i, j in steps])
            t = np.asarray(model.transition(pairs[None]))[0].mean(axis=0)
        for i, j in steps:
            rivals = ids[ids != j]
            v = table[np.append(j, rivals)]
            # The distance, without the terms that do not depend on j.
            scores = -((table[i] + t - v) ** 2).sum(axis=1) / 2
            scores = scores - np.append(0, log_q[rivals] + np.log(12))
            share = np.exp(scores) / np.exp(scores).sum()
            slope += (share @ v - table[j]) / len(steps)
        last = table[history[row, -1]] if history[row, -1] > 1 else np.asarray(model.start)
        np.testing.assert_allclose(states[row], last + t - 0.5 * slope, atol=1e-5)
    cold = np.asarray(model.start) + without
    np.testing.assert_allclose(model.cold_states(batch["features"]), cold, atol=1e-5)


def test_meta_tl_ranks_by_distance(dataset, batch):
    model = built("meta-tl", dataset, batch)
    states = model.cold_states(batch["features"])
    scores = np.asarray(model.score(states))[:, 2:]
    x, v = np.asarray(states), np.asarray(model.table)[2:]
    distance = ((x[:, None] - v) ** 2).sum(axis=2)
    np.testing.assert_allclose(
        scores[:, 1:] - scores[:, :1], (distance[:, :1] - distance[:, 1:]) / 2, atol=1e-5
    )
    # The sampled loss of training uses the same bias, so it ranks in the same way.
    np.testing.assert_allclose(model.bias, -(np.asarray(model.table) ** 2).sum(1) / 2, rtol=1e-5)


def test_meta_tl_trains_both_states_on_the_next_item(dataset, batch):
    model = built("meta-tl", dataset, batch)
    warm = np.asarray(model({**batch, "is_cold": np.zeros(32, bool)}))
    cold = np.asarray(model.cold_states(batch["features"]))
    labels, history = np.asarray(batch["target"])[:, 0], np.asarray(batch["history"])
    losses = []
    states = np.concatenate([warm, cold])
    given = zip(states, np.tile(labels, 2), np.tile(history, (2, 1)), strict=True)
    for state, label, seen in given:
        scores = np.asarray(model.score(state[None]))[0]
        rivals = np.setdiff1d(np.arange(2, len(scores)), seen)
        losses.append(log_sum(scores[rivals]) - scores[label])
    # Negatives are random in training and fixed otherwise, so the steps differ a little.
    found = float(model.losses_of(batch)["loss"])
    assert found == pytest.approx(np.mean(losses), rel=0.02)

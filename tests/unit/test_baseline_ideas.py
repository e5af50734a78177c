"""The defining idea of each meta-learning or contrastive baseline, recomputed in NumPy."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.baselines import meta
from tests.unit.baseline_cases import built, log_sum

RNG = np.random.default_rng(13)
LOG_Q = np.log(np.array([1, 1, 8, 4, 2, 1], "float32") / 15)


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32, shuffle=False)))


def test_the_sampled_loss_of_several_items():
    own, others = RNG.normal(size=(2, 2)), RNG.normal(size=(2, 3))
    items, ids = np.array([[2, 3], [4, 0]]), np.array([2, 5, 3])
    corrected = others - LOG_Q[ids] - np.log(3)
    expected = [
        np.mean(
            [
                # The item itself is no negative.
                log_sum(np.append(own[0, 0], corrected[0, [1, 2]])) - own[0, 0],
                log_sum(np.append(own[0, 1], corrected[0, [0, 1]])) - own[0, 1],
            ]
        ),
        log_sum(np.append(own[1, 0], corrected[1])) - own[1, 0],
    ]
    given = [tf.constant(x, tf.float32) for x in (own, others)] + [items, tf.constant(ids), LOG_Q]
    np.testing.assert_allclose(meta.sampled_loss(*given), expected, rtol=1e-5)
    # Items that the state is made of are no negatives.
    expected[1] = log_sum(np.append(own[1, 0], corrected[1, [0, 2]])) - own[1, 0]
    found = meta.sampled_loss(*given, seen=np.array([[0, 0], [5, 0]]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradient_steps_are_separate_for_each_user_and_differentiable():
    start, target = tf.Variable([[1.0], [2.0]]), tf.constant([[0.0], [5.0]])
    with tf.GradientTape() as tape:
        values = [tf.identity(start)]
        (found,) = meta.adapt(
            values, lambda v: tf.reduce_sum((v[0] - target) ** 2, axis=1), steps=2, rate=0.1
        )
    # v - .2 (v - t) twice: what is left of the distance is .8 ** 2 of it.
    np.testing.assert_allclose(found, [[0.64], [5 - 3 * 0.64]], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(found, start), [[0.64], [0.64]], rtol=1e-5)


def test_the_fixed_negatives_follow_the_distribution():
    ids, log_q = (np.asarray(x) for x in meta.spread_negatives(50, 102))
    assert ids.min() == 2 and (np.diff(ids) >= 0).all() and ids.max() < 102
    assert np.exp(log_q[2:]).sum() == pytest.approx(1, rel=1e-4)
    half = np.searchsorted(np.cumsum(np.exp(log_q[2:])), 0.5)
    assert (ids - 2 <= half).mean() == pytest.approx(0.5, abs=0.06)


def test_one_item_is_left_out(dataset, batch):
    model = built("clcrec", dataset, batch)
    events = np.concatenate([batch["history"], batch["target"][:, :1]], axis=1)
    context, item = (np.asarray(x) for x in model.leave_one_out(batch))
    np.testing.assert_array_equal(item, events[:, -1])
    np.testing.assert_array_equal(context[:, :-1], events[:, :-1])
    places = set()
    for _ in range(20):
        context, item = (np.asarray(x) for x in model.leave_one_out(batch, training=True))
        assert (item > 1).all()
        gone = context != events
        assert (gone.sum(axis=1) == 1).all()
        np.testing.assert_array_equal(events[gone], item)
        places |= set(gone.argmax(axis=1))
    assert len(places) > 5


def test_a_label_that_is_also_in_the_history_counts(dataset, batch):
    model = built("clcrec", dataset, batch)
    state, label = np.ones((1, 16), np.float32), np.array([4])
    table = np.asarray(model.table)
    found = [float(model.item_loss(state, label, np.array([[5, seen]]))) for seen in (0, 4)]
    scores = table[[2, 3, 4, *range(6, len(table))]].sum(axis=1)
    assert found == pytest.approx([log_sum(scores) - table[4].sum()] * 2, rel=1e-5)


@pytest.mark.parametrize("name", ["clcrec", "melu", "meta-embedding", "mwuf", "pdma", "sdcrec"])
@pytest.mark.parametrize("withheld", [0.0, 1.0])
def test_no_other_item_of_the_user_is_a_negative(dataset, batch, monkeypatch, name, withheld):
    model = built(name, dataset, batch, withheld=withheld)
    rivals = []
    if name in ("melu", "sdcrec"):
        file = importlib.import_module(f"cmclrec_tf.baselines.{name}")
        original = file.sampled_loss

        def spy(own, others, items, ids, log_q, seen=None):
            rivals.append(seen)
            return original(own, others, items, ids, log_q, seen)

        monkeypatch.setattr(file, "sampled_loss", spy)
    else:
        item_loss = model.item_loss

        def spy(states, labels, seen):
            rivals.append(seen)
            return item_loss(states, labels, seen)

        monkeypatch.setattr(model, "item_loss", spy)
    # The withheld rows are those that are cold outside of training.
    model.losses_of({**batch, "is_cold": np.full(32, bool(withheld))})
    seen = np.asarray(rivals[-1])
    for rows in np.split(seen, len(seen) // 32):
        np.testing.assert_array_equal(rows[:, :8], batch["history"])
        assert (rows[:, 8:] == 0).all()  # the label


def test_clcrec_weighs_two_contrasts(dataset, batch):
    model = built("clcrec", dataset, batch, withheld=0.0, contrast=0.25)
    history = np.asarray(batch["history"])
    factors, table = np.asarray(model.preferences.table), np.asarray(model.table)
    np.testing.assert_allclose(table, factors / model.config.baseline.temperature, rtol=1e-5)
    e = np.asarray(model.warm_states(history))
    np.testing.assert_allclose(e, model.preferences(history), rtol=1e-5)
    items = []
    for state, seen, label in zip(e, history, np.asarray(batch["target"])[:, 0], strict=True):
        # Items that the state is made of are no negatives.
        rivals = np.setdiff1d(np.arange(2, len(table)), np.setdiff1d(seen, [label]))
        items.append(log_sum(table[rivals] @ state) - table[label] @ state)
    items = np.mean(items)
    content = np.asarray(model.cold_states(batch["features"]))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (content, e)]
    alike = unit[0] @ unit[1].T / model.config.baseline.temperature
    keys = np.asarray(batch["profile_key"])
    contrast = []
    for k in range(32):
        rivals = (keys != keys[k]) | (np.arange(32) == k)
        contrast.append(log_sum(alike[k, rivals]) - alike[k, k])
    found = {name: float(value) for name, value in model.losses_of(batch).items()}
    assert found["loss/items"] == pytest.approx(items, rel=1e-4)
    assert found["loss/contrast"] == pytest.approx(np.mean(contrast), rel=1e-3)
    total = 0.75 * found["loss/items"] + 0.25 * found["loss/contrast"]
    assert found["loss"] == pytest.approx(total, rel=1e-5)


def test_melu_adapts_its_decision_layers_to_a_history(dataset, batch):
    model = built("melu", dataset, batch, inner_rate=0.02)
    cold = model.cold_states(batch["features"])
    warm = model({**batch, "is_cold": np.zeros(32, bool)})
    for weight, found in zip(model.decision, model._split(cold)[1], strict=True):
        np.testing.assert_allclose(found[7], weight, atol=1e-6)
    user, layers = model._split(warm)
    np.testing.assert_allclose(user, model._split(cold)[0], atol=1e-6)
    assert max(np.abs(a[0] - b).max() for a, b in zip(layers, model.decision, strict=True)) > 1e-5
    # After a step down the gradient, the history has a lower loss.
    negatives = meta.spread_negatives(12, dataset.schema.items)
    history = batch["history"]
    before, after = (
        model._loss(model._split(s)[1], user, history, negatives) for s in (cold, warm)
    )
    assert (np.asarray(after) < np.asarray(before)).all()


def test_melus_scores_are_those_of_its_network(dataset, batch):
    model = built("melu", dataset, batch)
    states = model({**batch, "is_cold": np.zeros(32, bool)})
    user, layers = model._split(states)
    w1, b1, w2, b2, w3, b3 = (np.asarray(w)[3] for w in layers)
    x = np.concatenate([np.asarray(user)[3], np.asarray(model.table)[9]])
    h = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0)
    assert float(model.score(states)[3, 9]) == pytest.approx((h @ w3 + b3)[0], abs=1e-5)


def test_melu_learns_its_starting_point_through_the_adaptation(dataset, batch):
    gradients = []
    for rate in (1e-9, 0.5):
        model = built("melu", dataset, batch, inner_rate=rate)
        weights = [some_weights(w.shape) for w in model.decision]
        for variable, value in zip(model.decision, weights, strict=True):
            variable.assign(value)
        with tf.GradientTape() as tape:
            loss = model.losses_of(batch)["loss"]
        gradients.append(tape.gradient(loss, model.decision[0].value))
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-6


def some_weights(shape):
    return np.random.default_rng(1).normal(0, 0.3, shape)


def test_pdma_adds_a_step_on_the_history_to_the_common_patterns(dataset, batch):
    model = built("pdma", dataset, batch, inner_rate=0.5, patterns=4)
    common = np.asarray(model.cold_states(batch["features"]))
    match = np.asarray(model.match(model.flat_tokens(batch["features"])))
    shares = np.exp(match) / np.exp(match).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(common, shares @ np.asarray(model.patterns.kernel), atol=1e-5)
    states = np.asarray(model({**batch, "is_cold": np.zeros(32, bool)}))
    table, history = np.asarray(model.table), np.asarray(batch["history"])
    ids, log_q = (np.asarray(x) for x in meta.spread_negatives(12, dataset.schema.items))
    expected = common.copy()
    for row, state in enumerate(common):
        known, slope = history[row][history[row] > 1], 0
        for item in known:
            rivals = ids[ids != item]
            v = table[np.append(item, rivals)]
            scores = v @ state - np.append(0, log_q[rivals] + np.log(12))
            share = np.exp(scores) / np.exp(scores).sum()
            slope += (share @ v - table[item]) / len(known)
        expected[row] -= 0.5 * slope
    np.testing.assert_allclose(states, expected, atol=1e-5)


def test_pdma_exchanges_fields_between_train_users(dataset, batch):
    model = built("pdma", dataset, batch, exchanged=0.5)
    found = model._exchange_fields(batch["features"])
    shares = []
    for name, values in batch["features"].items():
        own, other = np.asarray(values), np.roll(values, 1, axis=0)
        got = np.asarray(found[name])
        kept, changed = ((got == x) | (np.isnan(got) & np.isnan(x)) for x in (own, other))
        assert (kept.all(axis=1) | changed.all(axis=1)).all()
        shares.append((~kept.all(axis=1)).mean())
    assert 0.1 < np.mean(shares) < 0.6

"""The prefix form of Eq. (13): one sequence of the simulated history and the real one."""

import numpy as np
import pytest
import tensorflow as tf

import cmclrec_tf as cm
from cmclrec_tf import backbones
from cmclrec_tf.models import prefix
from cmclrec_tf.models.cold_rows import choose

RNG = np.random.default_rng(0)
HISTORY = np.array([[0, 0, 0, 0], [0, 0, 5, 6], [7, 8, 9, 4]], "int32")


def test_the_prefix_stands_right_in_front_of_the_oldest_item():
    simulated, t_s = RNG.normal(size=(3, 2, 5)), RNG.normal(size=(3, 4, 5))
    x, mask, end = map(np.asarray, prefix.join(simulated, t_s, HISTORY))
    for row, items in enumerate((HISTORY != 0).sum(1)):
        whole = np.concatenate([simulated[row], t_s[row, 4 - items :]])
        np.testing.assert_allclose(x[row, 4 - items :], whole)
        assert not x[row, : 4 - items].any()  # padding, whatever t_s holds there
        assert mask[row].tolist() == [False] * (4 - items) + [True] * (2 + items)
        assert np.flatnonzero(end[row]).tolist() == [5 - items]


def test_a_hidden_prefix_is_masked():
    shown = np.array([True, False, True])
    simulated, t_s = np.ones((3, 2, 5)), np.ones((3, 4, 5))
    _, mask, _ = prefix.join(simulated, t_s, HISTORY, shown)
    assert np.asarray(mask).sum(1).tolist() == [2, 2, 6]


@pytest.fixture(scope="module")
def batch(dataset):
    return next(iter(dataset.batches("test", 32)))


@pytest.fixture(scope="module")
def models(dataset, batch):
    """Returns a function of the backbone's name that makes a model, and its batch."""

    def build(backbone):
        changes = {"data.max_history": 8, "model.simulated": 3, "model.backbone": backbone}
        config = cm.Config.preset("tiny").changed(changes | {"model.popularity_prior": False})
        recommender = cm.CMCLRec(dataset.schema, config)
        recommender(batch)
        return recommender

    return build


@pytest.mark.parametrize("backbone", backbones.names())
def test_its_two_ends_are_equation_13(models, batch, backbone):
    """An empty history is X = T_s' (flag 1), a hidden prefix X = T_s (flag 0)."""
    model = models(backbone)
    t_s, _, simulated = model.mapper(batch)
    real = batch["history"].numpy() != 0
    newest = np.broadcast_to(np.arange(8) >= 8 - 3, real.shape)
    padded = np.pad(simulated, ((0, 0), (8 - 3, 0), (0, 0)))
    for is_cold in (True, False):
        flag = np.full(len(real), is_cold)
        mask = np.where(flag[:, None], newest, real)
        expected = model.backbone.state(choose(flag, padded, t_s), mask)
        history = np.where(flag[:, None], 0, batch["history"])
        x, mask, _ = prefix.join(simulated, t_s, history, shown=flag)
        np.testing.assert_allclose(model.backbone.state(x, mask), expected, atol=1e-5)
        states = model.cold_states(batch["features"]) if is_cold else model.warm_states(history)
        np.testing.assert_allclose(states, expected, atol=1e-5)


def test_a_warm_user_is_served_by_features_and_history(models, batch):
    model = models("sasrec")
    states = np.asarray(model.states(batch["history"], batch["features"]))
    np.testing.assert_allclose(states, model({**batch, "is_cold": np.zeros(len(states), bool)}))
    others = {name: tf.roll(value, 1, axis=0) for name, value in batch["features"].items()}
    for history, features in (
        (tf.roll(batch["history"], 1, 0), batch["features"]),
        (batch["history"], others),
    ):
        assert np.abs(states - model.states(history, features)).max() > 1e-3
    nothing = tf.zeros_like(batch["history"])
    np.testing.assert_allclose(
        model.states(nothing, batch["features"]), model.cold_states(batch["features"]), atol=1e-5
    )


def test_the_state_at_the_end_of_the_prefix_has_seen_no_item(models, batch):
    """One causal pass gives the cold state as well."""
    model = models("sasrec")
    simulated = model.simulated(batch["features"])

    def state(history):
        x, mask, end = prefix.join(simulated, model.embed(history), history)
        return np.asarray(prefix.at_end(model.backbone(x, mask), end))

    history = batch["history"].numpy()
    others = np.where(history > 0, RNG.integers(2, model.schema.items, history.shape), 0)
    np.testing.assert_allclose(state(history), state(others), atol=1e-6)
    empty = np.zeros_like(history)
    np.testing.assert_allclose(state(empty), model.cold_states(batch["features"]), atol=1e-5)


def test_forgetful_rows_keep_a_random_number_of_their_newest_items():
    history = np.tile(np.arange(2, 12, dtype="int32"), (4000, 1))
    seed = cm.models.pretrain.keras.random.SeedGenerator(3)
    left = np.asarray(prefix.forget(history, 0.5, seed))
    counts = (left != 0).sum(1)
    for row, count in zip(left[:50], counts[:50], strict=True):
        assert row.tolist() == [0] * (10 - count) + list(range(12 - count, 12))
    # Half of the rows keep all; the others keep 0 to 10 items alike.
    shares = np.bincount(counts, minlength=11) / len(counts)
    np.testing.assert_allclose(shares, [0.5 / 11] * 10 + [0.5 + 0.5 / 11], atol=0.02)

"""States between the warm path and the cold path."""

import numpy as np
import pytest
from keras import ops

from cmclrec_tf.layers import masking
from cmclrec_tf.models import hybrid


@pytest.fixture(scope="module")
def batch(dataset):
    return next(iter(dataset.batches("val", 32)))


def cut(history, n):
    return np.where(np.arange(history.shape[1])[::-1] < n, history, 0)


def test_the_share_of_the_cold_state_falls_with_every_known_item():
    histories = np.array([[0, 0, 0], [0, 0, 5], [0, 4, 5], [3, 4, 5]], np.int32)
    np.testing.assert_allclose(hybrid.cold_share(histories, 2.0), [1, 2 / 3, 1 / 2, 2 / 5])
    np.testing.assert_allclose(hybrid.cold_share(histories, 0.0), [0, 0, 0, 0])


def test_scores_are_blended_as_states_are(model, batch):
    warm, cold = model.warm_and_cold_states(batch)
    share = np.linspace(0, 1, len(warm))
    states = model.score(hybrid.blend(warm, cold, share))
    pairs = (np.asarray(model.score(x)) for x in (warm, cold))
    expected = sum(w[:, None] * x for w, x in zip((1 - share, share), pairs, strict=True))
    np.testing.assert_allclose(states[:, 2:], expected[:, 2:], atol=1e-4)


def test_joined_states_of_an_empty_history_are_cold_states(model, batch):
    empty = np.zeros(batch["history"].shape, np.int32)
    states = hybrid.joined_states(model, empty, batch["features"])
    np.testing.assert_allclose(states, model.cold_states(batch["features"]), atol=1e-5)


@pytest.mark.parametrize(("n", "taken"), [(1, 7), (3, 5), (8, 0)])
def test_simulated_vectors_stand_next_to_the_oldest_real_item(model, batch, n, taken):
    """As many as fit: `model.simulated` is 8, and so is the length of the history here."""
    history = batch["history"].numpy()
    rows = (history != 0).sum(axis=1) >= n
    history = cut(history[rows], n)
    features = {name: values[rows] for name, values in batch["features"].items()}
    simulated = model.mapper.simulate(model.mapper.feature_side(features))
    real = masking.newest_positions(model.embed(history, training=False), n)
    x = ops.concatenate([masking.newest_positions(simulated, taken), real], axis=1)
    expected = model.backbone(x, np.ones(x.shape[:2], bool), training=False)[:, -1]
    states = hybrid.joined_states(model, history, features)
    np.testing.assert_allclose(states, expected, atol=1e-5)

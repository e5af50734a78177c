"""MMD against Eqs. (9) and (10), kernel by kernel."""

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.losses.mmd import BANDWIDTHS, mmd, squared_distances


def oracle(s, f, spread):
    """Eqs. (9), (10): the three kernel means, pair by pair."""

    def mean_kernel(x, y):
        return np.mean(
            [
                np.exp(-np.sum((a - c) ** 2) / (2 * spread * width))
                for width in BANDWIDTHS
                for a in x
                for c in y
            ]
        )

    return mean_kernel(s, s) - 2 * mean_kernel(s, f) + mean_kernel(f, f)


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 4)).astype("float32"), rng.normal(0.5, size=(7, 4)).astype("float32")


def test_equals_the_equation(codes):
    both = np.concatenate(codes)
    distances = np.sort(np.sum((both[:, None] - both[None]) ** 2, axis=-1), axis=None)
    median = distances[(len(distances) - 1) // 2]
    np.testing.assert_allclose(mmd(*codes), oracle(*codes, median), rtol=1e-4)


def test_is_zero_for_equal_sets_whatever_their_order(codes):
    s, _ = codes
    np.testing.assert_allclose(mmd(s, s[::-1]), 0.0, atol=1e-6)
    assert mmd(s, s + 3) > 0.1


def test_rows_without_weight_are_left_out(codes):
    s, f = codes
    weights = np.array([1, 1, 0, 1, 1, 0, 1], "float32")
    keep = weights > 0
    both = np.concatenate([s[keep], f[keep]])
    distances = np.sort(np.sum((both[:, None] - both[None]) ** 2, axis=-1), axis=None)
    spread = distances[(len(distances) - 1) // 2]
    loss = mmd(s, f, weights)
    np.testing.assert_allclose(mmd(s[keep], f[keep]), loss, rtol=1e-5)
    np.testing.assert_allclose(loss, oracle(s[keep], f[keep], spread), rtol=1e-4)


def test_has_a_gradient_at_initialisation(codes):
    s, f = (tf.Variable(c * 1e-3) for c in codes)
    with tf.GradientTape() as tape:
        loss = mmd(s, f)
    for gradient in tape.gradient(loss, [s, f]):
        assert np.all(np.isfinite(gradient))
        assert np.abs(gradient).max() > 1e-3


def test_squared_distances():
    x = np.array([[0.0, 0.0], [3.0, 4.0]], "float32")
    np.testing.assert_allclose(squared_distances(x), [[0, 25], [25, 0]])

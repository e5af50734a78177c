"""The reconstruction loss against Eq. (8), user by user."""

import numpy as np
import pytest

from cmclrec_tf.losses.reconstruction import reconstruction

RNG = np.random.default_rng(0)
PREDICTED, TARGET = RNG.normal(size=(2, 3, 4, 5)).astype("float32")
MASK = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_equals_the_equation(reduction):
    """Eq. (8), with padding left out and the mean over the batch."""
    users = []
    for user in range(3):
        real = np.flatnonzero(MASK[user])
        error = sum(np.sum((PREDICTED[user, i] - TARGET[user, i]) ** 2) for i in real)
        users.append(error / max(1, len(real) * 5) if reduction == "mean" else error)
    loss = reconstruction(PREDICTED, TARGET, MASK, reduction=reduction)
    np.testing.assert_allclose(loss, np.mean(users), rtol=1e-5)


def test_rows_without_weight_are_left_out():
    loss = reconstruction(PREDICTED, TARGET, weights=np.array([0, 1, 0], "float32"))
    np.testing.assert_allclose(loss, np.mean((PREDICTED[1] - TARGET[1]) ** 2), rtol=1e-5)


def test_padding_does_not_matter():
    changed = np.where(MASK[:, :, None], PREDICTED, 100.0)
    assert reconstruction(changed, TARGET, MASK) == reconstruction(PREDICTED, TARGET, MASK)

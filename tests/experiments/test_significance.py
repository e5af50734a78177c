"""Both significance tests against other computations of the same numbers."""

import itertools

import numpy as np
import pytest

from cmclrec_tf.errors import InputError
from experiments.significance import paired_t, sign_flip

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("n", [2, 3, 12, 5000])
def test_t_by_integrating_its_density(n):
    a, b = RNG.normal(size=n), RNG.normal(0.1, size=n)
    t, p = paired_t(a, b)
    d, free = a - b, n - 1
    assert t == pytest.approx(d.mean() / np.sqrt(((d - d.mean()) ** 2).sum() / free / n))
    # With x = tan(u) the density's tails are finite.
    u = np.linspace(-np.pi / 2, np.pi / 2, 2_000_001)[1:-1]
    x = np.tan(u)
    mass = (1 + x * x / free) ** (-(free + 1) / 2) * (1 + x * x)
    expected = mass[np.abs(x) >= abs(t)].sum() / mass.sum()
    assert p == pytest.approx(expected, abs=1e-5)
    assert paired_t(b, a) == pytest.approx((-t, p))


def test_sign_flip_against_every_sign():
    a, b = RNG.normal(0.4, size=11), RNG.normal(size=11)
    d = a - b
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=11)]
    expected = np.mean(np.array(sums) >= abs(d.sum()) - 1e-12)
    rounds = 40_000
    assert sign_flip(a, b, rounds) == pytest.approx(
        expected, abs=4 * np.sqrt(expected * (1 - expected) / rounds)
    )


def test_users_without_a_difference_change_no_sign_flip():
    a, b = np.array([1.0, 0, 1, 1, 0, 1]), np.array([0.0, 0, 0, 1, 0, 0])
    # Three differences of 1: in 2 of 8 rounds all have one sign.
    assert sign_flip(a, b, 40_000) == pytest.approx(0.25, abs=0.01)


def test_no_difference_and_a_constant_difference():
    a = RNG.normal(size=9)
    assert paired_t(a, a) == (0, 1) and sign_flip(a, a, 100) == 1
    t, p = paired_t(np.ones(4), np.zeros(4))
    assert t == np.inf and p == 0
    # Never 0: the actual signs count as one more round.
    assert sign_flip(np.ones(40), np.zeros(40), 99) == 1 / 100


def test_chance_is_rarely_called_significant():
    ps = []
    for _ in range(300):
        hits = RNG.random((2, 60)) < 0.3
        ps.append((paired_t(*hits)[1], sign_flip(*hits, 200)))
    assert (np.mean(np.array(ps) < 0.05, axis=0) < 0.1).all()


def test_different_users_are_rejected():
    for a, b in (([1, 2], [1, 2, 3]), ([1], [1]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(InputError, match="the same users"):
            paired_t(a, b)

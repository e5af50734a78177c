"""Paired significance tests: is one recommender better than another on the same users?

Both tests are two-sided and look at the difference d = a - b of each user.
"""

from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from cmclrec_tf.errors import InputError

ROUNDS = 10_000

# Signs that are held in memory at once: 16 MB of float64.
_BLOCK = 2_000_000


def paired_t(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Student's paired t test: t = mean(d) / (sd(d) / sqrt(n)), with n - 1 degrees of freedom.

    Args:
        a, b: float [n], a metric of the same n users under two recommenders.

    Returns:
        t and p; 0 and 1 if no user differs.

    Raises:
        InputError: the users differ in number, or there are fewer than two.
    """
    a, b = _paired(a, b)
    if (a == b).all():
        return 0.0, 1.0
    test = scipy.stats.ttest_rel(a, b)
    return float(test.statistic), float(test.pvalue)


def sign_flip(a: ArrayLike, b: ArrayLike, rounds: int = ROUNDS, seed: int = 0) -> float:
    """Sign-flip randomisation test: how often do random signs of d give as large a |sum|?

    It assumes nothing about the distribution of d, which is far from normal for a metric that is 0
    for most users.

    Args:
        a, b: float [n], a metric of the same n users under two recommenders.
        rounds: number of random sign vectors. If no more than that exist, all are tried and p is
            exact.
        seed: seeds the signs.

    Returns:
        p. It is never 0: for random signs, the actual signs count as one more round.

    Raises:
        InputError: the users differ in number, or there are fewer than two.
    """
    a, b = _paired(a, b)
    # `scipy.stats.permutation_test` gives the same, but takes 50 times as long for 10,000 users,
    # and a table makes dozens of tests. A zero has no sign, so p does not depend on it.
    d = (a - b)[a != b]
    n = len(d)
    observed = _abs_sums(d, np.zeros((1, n)))
    if 2**n <= rounds:
        flips = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float(np.mean(_abs_sums(d, flips) >= observed))
    rng, as_large, batch = np.random.default_rng(seed), 1, max(1, _BLOCK // n)
    for first in range(0, rounds, batch):
        size = (min(batch, rounds - first), -(-n // 8))
        bits = np.unpackbits(rng.integers(256, size=size, dtype=np.uint8), axis=1, count=n)
        as_large += int(np.sum(_abs_sums(d, bits) >= observed))
    return as_large / (rounds + 1)


def _abs_sums(d: NDArray[np.float64], flips: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the |sum of d| [N] with the signs of d changed where flips [N, n] are 1."""
    # The same numbers summed in another order differ in the last digits.
    return np.abs(d.sum() - 2 * (flips @ d)).round(9)


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns both as float64 arrays, checked to be of the same users."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"values of shapes {a.shape} and {b.shape}",
            "a paired test compares the same users, two or more, under two recommenders",
            "Evaluate both recommenders on the same split.",
        )
    return a, b

"""Paired significance tests: is one recommender better than another on the same users?

Both tests are two-sided and look at the difference d = a - b of each user.
"""

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
    # A zero has no sign, so p does not depend on it. Without zeros, which most differences are, the
    # test is 5 to 10 times faster.
    d = (a - b)[a != b]
    if len(d) < 2:
        return 1.0  # both signs of one difference give the same |sum|
    # scipy counts all sign vectors, 2^n, in floating point, which may overflow to infinity. Given
    # one sample it flips signs; |sum| makes the test two-sided, so only large values count.
    with np.errstate(over="ignore"):
        test = scipy.stats.permutation_test(
            (d,),
            _rounded_abs_sum,
            permutation_type="samples",
            vectorized=True,
            n_resamples=rounds,
            batch=max(1, _BLOCK // len(d)),
            alternative="greater",
            random_state=np.random.default_rng(seed),
        )
    return float(test.pvalue)


def _rounded_abs_sum(d: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    # The same numbers summed in another order differ in the last digits.
    return np.abs(d.sum(axis=axis)).round(9)


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

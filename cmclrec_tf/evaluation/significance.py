"""Whether one recommender is better than another on the same users, or lucky.

Both tests are two-sided and paired: they look at each user's difference, d = a - b.
"""

import math

import numpy as np
import tensorflow as tf

from cmclrec_tf.errors import InputError

ROUNDS = 10_000


def paired_t(a, b):
    """Student's paired t test: t = mean(d) / (sd(d) / sqrt(n)), n - 1 degrees of freedom.

    Args:
        a, b: float [n], a metric of the same n users under two recommenders.

    Returns:
        t and p; 0 and 1 when no user differs.

    Raises:
        InputError: other users, or fewer than two.
    """
    d = _differences(a, b)
    spread = d.std(ddof=1)
    if spread == 0:
        return (0.0, 1.0) if d[0] == 0 else (math.copysign(math.inf, d[0]), 0.0)
    t = d.mean() / (spread / math.sqrt(len(d)))
    free = len(d) - 1
    # P(|T| >= |t|) = I_x(free / 2, 1 / 2), x = free / (free + t^2); I is the incomplete beta.
    x = tf.constant(free / (free + t * t), tf.float64)
    return float(t), float(tf.math.betainc(tf.constant(free / 2, x.dtype), 0.5, x))


def sign_flip(a, b, rounds=ROUNDS, seed=0):
    """Randomisation test: how often random signs give a mean as far from 0 as the one found.

    It assumes nothing of the differences' distribution, which is far from normal for a metric that
    is 0 for most users.

    Args:
        a, b: float [n], a metric of the same n users under two recommenders.
        rounds: random draws of all signs.
        seed: of the draws.

    Returns:
        p = (1 + draws as extreme) / (1 + rounds): never 0, as the identity is one of the draws.

    Raises:
        InputError: other users, or fewer than two.
    """
    d = _differences(a, b)
    d = d[d != 0]  # a sign makes no difference to these
    found = abs(d.sum())
    rng = np.random.default_rng(seed)
    extreme, step = 0, 200
    for start in range(0, rounds, step):
        draws = min(step, rounds - start)
        signs = rng.integers(0, 2, (draws, len(d)), np.int8) * 2.0 - 1.0
        # Sums of the same numbers in another order differ in the last digits.
        extreme += int((np.abs(signs @ d) >= found * (1 - 1e-9)).sum())
    return (1 + extreme) / (1 + rounds)


def _differences(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"values of the shapes {a.shape} and {b.shape}",
            "a paired test needs the same users, two or more, on both sides",
            "Evaluate both recommenders on the same split.",
        )
    return a - b

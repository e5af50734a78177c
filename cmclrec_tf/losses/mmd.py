"""Eqs. (9) and (10): the maximum mean discrepancy between two sets of codes."""

import math

from keras import ops

from cmclrec_tf.types import BoolN, FloatB, FloatBZ, FloatND, FloatNN, Scalar

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd(codes1: FloatBZ, codes2: FloatBZ, weights: FloatB | None = None) -> Scalar:
    """Eq. (9), first term: MMD^2 = mean k(s_i, s_j) - 2 mean k(s_i, f_j) + mean k(f_i, f_j).

    It measures how far apart two sets of codes lie as distributions. k is the Gaussian kernel of
    Eq. (10), averaged over several bandwidths: the median squared distance of the batch times each
    of BANDWIDTHS. The means run over all pairs, i = j included (the biased V-statistic). No
    gradient flows through the median.

    Args:
        codes1, codes2: float [B, Z].
        weights: float [B], 0 for rows that are left out of both sets.

    Returns:
        Scalar >= 0.

    Source: the median heuristic, Gretton et al., JMLR 13, 2012.

    Example:
        >>> from keras import ops
        >>> codes = ops.array([[0.0], [1.0]])
        >>> float(mmd(codes, codes)), float(mmd(codes, codes + 3)) > 0.5
        (0.0, True)
    """
    codes = ops.cast(ops.concatenate([codes1, codes2]), "float32")  # [2B, Z]
    distance = squared_distances(codes)  # [2B, 2B]
    share = ops.ones(ops.shape(codes1)[:1]) if weights is None else ops.cast(weights, "float32")
    spread = ops.stop_gradient(_median(distance, ops.concatenate([share, share]) > 0))
    kernel = sum(ops.exp(-distance / (2 * spread * b)) for b in BANDWIDTHS) / len(BANDWIDTHS)
    share = share / ops.maximum(ops.sum(share), 1e-9)
    signed = ops.concatenate([share, -share])  # +1/N for one set, -1/N for the other
    return ops.sum(kernel * signed[:, None] * signed[None, :])


def _median(distance: FloatNN, counted: BoolN) -> Scalar:
    """Returns the (lower) median of distance [N, N] over pairs of counted rows, at least 1e-6."""
    pair = ops.reshape(ops.logical_and(counted[:, None], counted[None, :]), (-1,))
    ordered = ops.sort(ops.where(pair, ops.reshape(distance, (-1,)), math.inf))
    middle = ops.maximum(ops.sum(ops.cast(pair, "int32")) - 1, 0) // 2
    return ops.clip(ops.take(ordered, middle), 1e-6, 1e30)


def squared_distances(x: FloatND) -> FloatNN:
    """Returns ||x_i - x_j||^2 for all pairs of rows, exactly 0 on the diagonal.

    Args:
        x: float [N, D].

    Returns:
        float [N, N].

    Example:
        >>> from keras import ops
        >>> squared_distances(ops.array([[0.0, 0.0], [3.0, 4.0]])).numpy().tolist()
        [[0.0, 25.0], [25.0, 0.0]]
    """
    square = ops.sum(ops.square(x), axis=1)
    distance = square[:, None] + square[None, :] - 2 * ops.matmul(x, ops.transpose(x))
    return ops.maximum(distance, 0.0) * (1.0 - ops.eye(ops.shape(x)[0]))

"""Eqs. (9) and (10): the maximum mean discrepancy between two sets of codes."""

from keras import ops

from cmclrec_tf import replicas

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd(codes1, codes2, weights=None):
    """Eq. (9), first term: MMD^2 as the biased V-statistic, over all pairs.

    mean k(s_i, s_j) - 2 mean k(s_i, f_j) + mean k(f_i, f_j), with the Gaussian kernel of Eq. (10)
    averaged over several bandwidths. sigma^2 is the median squared distance of the batch (median
    heuristic, Gretton et al., JMLR 13, 2012) times each of BANDWIDTHS; no gradient goes through it.

    It is no sum over rows: every replica computes it on the rows of all, and returns its share.

    Args:
        codes1, codes2: [B, Z].
        weights: [B], 0 for rows that are left out of both.

    Returns:
        Scalar >= 0.
    """
    codes1, codes2 = replicas.gathered(codes1), replicas.gathered(codes2)
    weights = None if weights is None else replicas.gathered(weights)
    codes = ops.cast(ops.concatenate([codes1, codes2]), "float32")  # [2B, Z]
    distance = squared_distances(codes)  # [2B, 2B]
    share = ops.ones(ops.shape(codes1)[:1]) if weights is None else ops.cast(weights, "float32")
    spread = ops.stop_gradient(_median(distance, ops.concatenate([share, share]) > 0))
    kernel = sum(ops.exp(-distance / (2 * spread * b)) for b in BANDWIDTHS) / len(BANDWIDTHS)
    share = share / ops.maximum(ops.sum(share), 1e-9)
    signed = ops.concatenate([share, -share])  # +1/N for one set, -1/N for the other
    return replicas.shared(ops.sum(kernel * signed[:, None] * signed[None, :]))


def _median(distance, kept):
    """The (lower) median of distance [n, n] over the pairs of kept rows, and at least 1e-6."""
    pair = ops.reshape(ops.logical_and(kept[:, None], kept[None, :]), (-1,))
    ordered = ops.sort(ops.where(pair, ops.reshape(distance, (-1,)), 3e38))
    middle = ops.maximum(ops.sum(ops.cast(pair, "int32")) - 1, 0) // 2
    return ops.clip(ops.take(ordered, middle), 1e-6, 1e30)


def squared_distances(x):
    """||x_i - x_j||^2 for all pairs: [n, Z] -> [n, n], exactly 0 on the diagonal."""
    square = ops.sum(ops.square(x), axis=1)
    distance = square[:, None] + square[None, :] - 2 * ops.matmul(x, ops.transpose(x))
    return ops.maximum(distance, 0.0) * (1.0 - ops.eye(ops.shape(x)[0]))

"""Eqs. (3) and (4): the contrastive loss between two views."""

from keras import ops

from cmclrec_tf import replicas


def info_nce(view1, view2, temperature, keys=None, weights=None):
    """Eqs. (3), (4): mean over k of -log(exp(s_kk / tau) / sum_t exp(s_kt / tau)), s = cosine.

    The denominator holds all users of the batch, the positive pair included, except users with
    the same key as k: they are the same user, or cannot be told apart, and are no negatives. The
    users of other replicas are negatives like those of this one (see `replicas`).

    Args:
        view1, view2: [B, D] embeddings of the two views.
        temperature: tau.
        keys: [B] integers; None: all rows differ.
        weights: [B], 1 for rows that count and 0 for rows that are left out on both sides.

    Returns:
        Scalar; 0 when no row counts.
    """
    others = replicas.gathered(_unit(view2))  # the rows of this replica are b of them
    similarity = ops.matmul(_unit(view1), ops.transpose(others)) / temperature  # [b, B]
    itself = replicas.itself(*ops.shape(similarity))
    allowed = ops.ones_like(itself)
    if keys is not None:
        allowed = ops.not_equal(keys[:, None], replicas.gathered(keys)[None, :])
    if weights is not None:
        allowed = ops.logical_and(allowed, replicas.gathered(weights)[None, :] > 0)
    similarity = ops.where(ops.logical_or(allowed, itself), similarity, -1e9)
    positive = ops.sum(ops.where(itself, similarity, 0.0), axis=1)
    loss = ops.logsumexp(similarity, axis=1) - positive  # [b]
    return weighted_mean(loss, weights)


def weighted_mean(values, weights=None):
    """sum(w v) / sum(w), or the plain mean; 0 when all weights are 0. values [B] -> scalar.

    The weights are summed over all replicas: of several, each returns its share.
    """
    if weights is None:
        return replicas.mean(values)
    weights = ops.cast(weights, values.dtype)
    return ops.sum(values * weights) / ops.maximum(replicas.total(ops.sum(weights)), 1e-9)


def _unit(x):
    x = ops.cast(x, "float32")
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))

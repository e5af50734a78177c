"""Eqs. (3) and (4): the contrastive loss between two views."""

from keras import ops


def info_nce(view1, view2, temperature, keys=None, weights=None):
    """Eqs. (3), (4): mean over k of -log(exp(s_kk / tau) / sum_t exp(s_kt / tau)), s = cosine.

    The denominator holds all users of the batch, the positive pair included, except users with
    the same key as k: they are the same user, or cannot be told apart, and are no negatives.

    Args:
        view1, view2: [B, D] embeddings of the two views.
        temperature: tau.
        keys: [B] integers; None: all rows differ.
        weights: [B], 1 for rows that count and 0 for rows that are left out on both sides.

    Returns:
        Scalar; 0 when no row counts.
    """
    similarity = ops.matmul(_unit(view1), ops.transpose(_unit(view2))) / temperature  # [B, B]
    itself = ops.eye(ops.shape(similarity)[0], dtype="bool")
    allowed = ops.ones_like(itself)
    if keys is not None:
        allowed = ops.not_equal(keys[:, None], keys[None, :])
    if weights is not None:
        allowed = ops.logical_and(allowed, weights[None, :] > 0)
    similarity = ops.where(ops.logical_or(allowed, itself), similarity, -1e9)
    positive = ops.diagonal(similarity)
    loss = ops.logsumexp(similarity, axis=1) - positive  # [B]
    return weighted_mean(loss, weights)


def weighted_mean(values, weights=None):
    """sum(w v) / sum(w), or the plain mean; 0 when all weights are 0. values [B] -> scalar."""
    if weights is None:
        return ops.mean(values)
    weights = ops.cast(weights, values.dtype)
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1e-9)


def _unit(x):
    x = ops.cast(x, "float32")
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))

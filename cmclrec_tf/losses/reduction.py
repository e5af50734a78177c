"""Averages the losses of single users to the loss of a batch."""

from keras import ops

from cmclrec_tf.types import FloatB, Scalar


def weighted_mean(values: FloatB, weights: FloatB | None = None) -> Scalar:
    """Returns sum(w v) / sum(w), or the plain mean without weights.

    `replicas.mean` is the same over the rows of several replicas.

    Args:
        values: float [B].
        weights: float [B]; None counts every row once.

    Returns:
        Scalar; 0 when all weights are 0.

    Example:
        >>> from keras import ops
        >>> float(weighted_mean(ops.array([1.0, 3.0, 8.0]), ops.array([1.0, 1.0, 0.0])))
        2.0
    """
    if weights is None:
        return ops.mean(values)
    weights = ops.cast(weights, values.dtype)
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1e-9)

"""Eq. (8), and the second term of Eq. (9): squared errors between token sequences."""

from keras import ops

from cmclrec_tf.losses.reduction import weighted_mean
from cmclrec_tf.types import BoolBN, FloatB, FloatBND, Scalar


def reconstruction(
    predicted: FloatBND,
    target: FloatBND,
    mask: BoolBN | None = None,
    weights: FloatB | None = None,
    reduction: str = "mean",
) -> Scalar:
    """Eq. (8): ||T^ - T||^2 over the real tokens of each user, mean over the batch.

    Args:
        predicted, target: float [B, N, D].
        mask: bool [B, N], False for padding; None means that every token is real.
        weights: float [B], 0 for rows that do not count.
        reduction: over the elements of a user, `sum` as printed in the paper, or `mean`.

    Returns:
        Scalar.

    Example:
        >>> from keras import ops
        >>> float(reconstruction(ops.ones((2, 3, 4)), ops.zeros((2, 3, 4)), reduction="sum"))
        12.0
    """
    return weighted_mean(reconstruction_rows(predicted, target, mask, reduction), weights)


def reconstruction_rows(
    predicted: FloatBND,
    target: FloatBND,
    mask: BoolBN | None = None,
    reduction: str = "mean",
) -> FloatB:
    """Eq. (8) before the mean over the batch: the squared error of each user.

    Args:
        predicted, target, mask, reduction: see `reconstruction`.

    Returns:
        float32 [B].

    Example:
        >>> from keras import ops
        >>> reconstruction_rows(ops.ones((2, 3, 4)), ops.zeros((2, 3, 4))).numpy().tolist()
        [1.0, 1.0]
    """
    error = ops.square(ops.cast(predicted, "float32") - ops.cast(target, "float32"))
    real = ops.ones(ops.shape(error)[:2]) if mask is None else ops.cast(mask, "float32")
    total = ops.sum(error * real[:, :, None], axis=(1, 2))  # [B]
    if reduction == "mean":
        total = total / ops.maximum(ops.sum(real, axis=1) * error.shape[-1], 1.0)
    return total

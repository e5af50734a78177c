"""Eq. (8), and the second term of Eq. (9): squared errors between token sequences."""

from keras import ops

from cmclrec_tf.losses.info_nce import weighted_mean


def reconstruction(predicted, target, mask=None, weights=None, reduction="mean"):
    """Eq. (8): ||T^ - T||^2 over the real tokens of each user, mean over the batch.

    Args:
        predicted, target: [B, n, D].
        mask: bool [B, n], False for padding.
        weights: [B], 0 for rows that are left out.
        reduction: over the elements of a user, `sum` as printed or `mean`.

    Returns:
        Scalar.
    """
    error = ops.square(ops.cast(predicted, "float32") - ops.cast(target, "float32"))
    real = ops.ones(ops.shape(error)[:2]) if mask is None else ops.cast(mask, "float32")
    total = ops.sum(error * real[:, :, None], axis=(1, 2))  # [B]
    if reduction == "mean":
        total = total / ops.maximum(ops.sum(real, axis=1) * error.shape[-1], 1.0)
    return weighted_mean(total, weights)

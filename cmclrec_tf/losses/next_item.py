"""Eq. (14): the recommendation loss over the whole catalogue."""

from keras import ops

from cmclrec_tf.schema import FIRST_ID


def next_item(scores, labels):
    """Eq. (14): -(score of the label - log sum of exp(scores over all items)).

    The printed softmax inside the softmax is read as the plain softmax cross-entropy.

    Args:
        scores: [..., V], PAD and OOV already at -inf or very low.
        labels: int [...]; ids below FIRST_ID (padding, unknown item) give 0.

    Returns:
        float32 [...], the loss of each position.
    """
    scores = ops.cast(scores, "float32")
    safe = ops.maximum(labels, FIRST_ID)
    chosen = ops.squeeze(ops.take_along_axis(scores, safe[..., None], axis=-1), axis=-1)
    return ops.where(labels >= FIRST_ID, ops.logsumexp(scores, axis=-1) - chosen, 0.0)

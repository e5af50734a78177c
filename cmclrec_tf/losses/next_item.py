"""Eq. (14): the recommendation loss over the whole catalogue."""

from keras import ops

from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import FloatB, FloatBV, IdsBN, Tensor


def next_item(scores: Tensor, labels: Tensor) -> Tensor:
    """Eq. (14): -(score of the label - log sum of exp(scores over all items)).

    The paper prints a softmax inside a softmax; this is the plain softmax cross-entropy.

    Args:
        scores: float [..., V], with `MASKED_SCORE` for PAD and OOV.
        labels: int [...]; ids below FIRST_ID (padding, unknown item) give 0.

    Returns:
        float32 [...], the loss of each position.

    Example:
        >>> from keras import ops
        >>> scores = ops.array([[-1e9, -1e9, 0.0, 0.0]])  # PAD, OOV and two items
        >>> round(float(next_item(scores, ops.array([2]))[0]), 4)  # log 2
        0.6931
    """
    scores = ops.cast(scores, "float32")
    safe = ops.maximum(labels, FIRST_ID)
    label_score = ops.squeeze(ops.take_along_axis(scores, safe[..., None], axis=-1), axis=-1)
    return ops.where(labels >= FIRST_ID, ops.logsumexp(scores, axis=-1) - label_score, 0.0)


def next_labels(history: IdsBN, target: IdsBN) -> IdsBN:
    """Returns the next item of every position: the history shifted by one, then the target.

    Args:
        history: int [B, L].
        target: int [B, N]; the first one counts.

    Returns:
        int [B, L]; PAD at padding, which predicts nothing.

    Example:
        >>> from keras import ops
        >>> next_labels(ops.array([[0, 4, 5]]), ops.array([[6]])).numpy().tolist()
        [[0, 5, 6]]
    """
    target = target[:, :1]
    shifted = ops.concatenate([history[:, 1:], target], axis=1)
    # A padded position predicts nothing, not even the first real item.
    real = ops.concatenate([history[:, :-1] != PAD, ops.ones_like(target, dtype="bool")], axis=1)
    return ops.where(real, shifted, PAD)


def soft_next_item(scores: FloatBV, shares: FloatBV) -> FloatB:
    """Eq. (14) with several right answers: -sum_i shares_i log softmax(scores)_i.

    Args:
        scores: float [B, V].
        shares: float [B, V]; each row sums to 1, or to 0 where no answer is known.

    Returns:
        float32 [B].

    Example:
        >>> from keras import ops
        >>> scores, shares = ops.zeros((1, 2)), ops.array([[0.5, 0.5]])
        >>> round(float(soft_next_item(scores, shares)[0]), 4)  # log 2
        0.6931
    """
    scores = ops.cast(scores, "float32")
    mass = ops.sum(shares, axis=1)
    # Masked items have a share of 0; written like this their score cannot become NaN.
    return mass * ops.logsumexp(scores, axis=1) - ops.sum(shares * scores, axis=1)

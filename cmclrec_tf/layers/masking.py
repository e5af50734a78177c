"""Masks: which positions may be read, and the score of those that may not."""

from keras import ops

from cmclrec_tf.types import BoolBN, BoolBNN, Tensor

# The score of what must not be chosen: a masked position, an excluded item, PAD and OOV. Not
# minus infinity: a few such scores may be added, subtracted or multiplied by 0 and stay finite,
# where infinities would turn into NaN. Softmaxes and rankings of it run in float32; float16 ends
# at -65504.
MASKED_SCORE = -1e9


def attention_mask(length: int, mask: BoolBN | None = None, causal: bool = False) -> BoolBNN:
    """Returns which position may attend to which.

    Args:
        length: N, the number of positions.
        mask: bool [B, N], False for padding; None means that every position is real.
        causal: whether a position sees only itself and older ones.

    Returns:
        bool, broadcastable to [B, N, N]: row i, column j is True where i may read j.

    Example:
        >>> attention_mask(2, causal=True).numpy().tolist()
        [[[True, False], [True, True]]]
    """
    slot = ops.arange(length)
    allowed = (slot[None, :] <= slot[:, None])[None] if causal else ops.ones((1, 1, length), "bool")
    return allowed if mask is None else ops.logical_and(allowed, mask[:, None, :])


def newest_positions(x: Tensor, count: int | None) -> Tensor:
    """Returns the newest `count` positions of x [B, N, ...], or all of them for None.

    Histories are padded on the left, so the newest positions are the last ones.

    Args:
        x: any dtype, [B, N, ...].
        count: at least 1.

    Returns:
        [B, min(count, N), ...].

    Example:
        >>> from keras import ops
        >>> newest_positions(ops.array([[1, 2, 3]]), 2).numpy().tolist()
        [[2, 3]]
    """
    return x if count is None else x[:, -count:]

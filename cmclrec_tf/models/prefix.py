"""The prefix form of Eq. (13): the simulated history in front of the real one, as one sequence."""

from keras import ops

from cmclrec_tf import replicas
from cmclrec_tf.schema import PAD
from cmclrec_tf.types import BoolB, BoolBN, FloatBD, FloatBN, FloatBND, FloatBSD, IdsBN, Seed


def count_items(history: IdsBN) -> IdsBN:
    """Returns the number of items in each history, int32 [B].

    Example:
        >>> count_items(ops.array([[0, 0, 5], [4, 5, 6]])).numpy().tolist()
        [1, 3]
    """
    return ops.sum(ops.cast(history != PAD, "int32"), axis=1)


def join(
    simulated: FloatBSD, t_s: FloatBND, history: IdsBN, shown: BoolB | None = None
) -> tuple[FloatBND, BoolBN, FloatBN]:
    """Puts S simulated positions in front of N real ones; padding comes first.

    X = [padding, T_s' (S positions), T_s (the items of the history, newest last)]. With an empty
    history X is T_s', and with a hidden prefix T_s: the two ends of Eq. (13).

    Args:
        simulated: float [B, S, D], oldest first.
        t_s: float [B, N, D], the embedded history.
        history: int [B, N], padded on the left.
        shown: bool [B], False where the prefix is hidden; None shows all.

    Returns:
        X [B, S + N, D], its mask [B, S + N], and the last position of the prefix as a float
        [B, S + N] of one 1 in each row: the state there depends on the user features alone.

    Example:
        >>> simulated, t_s = ops.full((1, 1, 1), 7.0), ops.array([[[0.0], [5.0]]])
        >>> x, mask, end = join(simulated, t_s, history=ops.array([[0, 4]]))
        >>> x[0, :, 0].numpy().tolist(), mask[0].numpy().tolist(), end[0].numpy().tolist()
        ([0.0, 7.0, 5.0], [False, True, True], [0.0, 1.0, 0.0])
    """
    count, dtype = simulated.shape[1], simulated.dtype
    length = ops.shape(history)[1]
    real = ops.pad(history, [[0, 0], [count, 0]], constant_values=PAD) != PAD
    x = ops.pad(ops.cast(t_s, dtype), [[0, 0], [count, 0], [0, 0]])
    x = ops.where(real[:, :, None], x, 0)
    start = length - count_items(history)
    slot = ops.arange(count + length)[None] - start[:, None]  # of the prefix, [B, S + N]
    # A product with zeros and ones: its gradient costs less than that of a gather.
    placed = ops.one_hot(slot, count, dtype=dtype)  # [B, S + N, S]; 0 outside of the prefix
    x = x + ops.matmul(placed, simulated)
    inside = ops.logical_and(slot >= 0, slot < count)
    if shown is not None:
        inside = ops.logical_and(inside, shown[:, None])
    return x, ops.logical_or(real, inside), placed[:, :, -1]


def at_end(g: FloatBND, end: FloatBN) -> FloatBD:
    """Returns the states [B, D] of G [B, N, D] at the prefix's end, see `join`.

    Example:
        >>> at_end(ops.array([[[1.0], [2.0]]]), ops.array([[0.0, 1.0]])).numpy().tolist()
        [[2.0]]
    """
    return ops.squeeze(ops.matmul(ops.cast(end, g.dtype)[:, None], g), axis=1)


def forget(history: IdsBN, share: float, seed: Seed) -> IdsBN:
    """Removes the older part of some histories: a random number of newest items is left, or none.

    Args:
        history: int [B, N], padded on the left.
        share: share of the rows that forget.
        seed: seeds the choice.

    Returns:
        int [B, N].

    Example:
        >>> history = ops.array([[4, 5, 6]])
        >>> forget(history, share=0.0, seed=1).numpy().tolist()
        [[4, 5, 6]]
        >>> left = forget(history, share=1.0, seed=1).numpy().tolist()
        >>> left in ([[0, 0, 0]], [[0, 0, 6]], [[0, 5, 6]], [[4, 5, 6]])
        True
    """
    rows, length = ops.shape(history)[0], ops.shape(history)[1]
    count = ops.cast(count_items(history), "float32")
    left = ops.floor(replicas.uniform((rows,), seed) * (count + 1.0))
    left = ops.where(replicas.uniform((rows,), seed) < share, left, count)
    age = ops.cast(ops.arange(length)[::-1], "float32")  # 0 for the newest position
    return ops.where(age[None] < left[:, None], history, PAD)

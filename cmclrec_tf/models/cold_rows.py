"""Cold rows in training: flags (Eq. 12), the choice of Eq. (13), and targets."""

import tensorflow as tf
from keras import ops

from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import (
    Batch,
    BoolB,
    BoolBN,
    FloatB,
    FloatBN,
    FloatBND,
    FloatBSD,
    FloatBV,
    IdsBN,
    KeysB,
    Tensor,
)


def choose(is_cold: BoolB, simulated: Tensor, real: Tensor) -> Tensor:
    """Eq. (13): X = flag T_s' + (1 - flag) T_s, for each row.

    It is a select, so that no gradient reaches the side that a row does not use.

    Args:
        is_cold: bool [B], the flag of Eq. (12).
        simulated, real: [B, L, ...].

    Returns:
        [B, L, ...].

    Example:
        >>> choose(ops.array([True, False]), ops.ones((2, 1)), ops.zeros((2, 1))).numpy().tolist()
        [[1.0], [0.0]]
    """
    flag = ops.reshape(is_cold, (-1,) + (1,) * (len(real.shape) - 1))
    return ops.where(flag, simulated, real)


def either(
    is_cold: BoolB, simulated: FloatBSD, t_s: FloatBND, history: IdsBN
) -> tuple[FloatBND, BoolBN]:
    """Eq. (13) as printed: returns the input of the backbone, one of two histories for each row.

    Both sides are padded on the left to the longer one of the two.

    Args:
        is_cold: bool [B].
        simulated: float [B, S, D], the simulated histories.
        t_s: float [B, N, D], the real ones.
        history: int [B, N], their ids.

    Returns:
        X [B, max(S, N), D] and its mask [B, max(S, N)].

    Example:
        >>> simulated, t_s = ops.full((1, 2, 1), 7.0), ops.array([[[5.0]]])
        >>> x, mask = either(ops.array([True]), simulated, t_s, history=ops.array([[4]]))
        >>> x[0, :, 0].numpy().tolist(), mask[0].numpy().tolist()
        ([7.0, 7.0], [True, True])
    """
    count, length = simulated.shape[1], ops.shape(t_s)[1]
    longer = ops.maximum(count, length)
    newest = ops.arange(longer)[None] >= longer - count
    real = ops.pad(history, [[0, 0], [longer - length, 0]], constant_values=PAD) != PAD
    simulated = ops.pad(simulated, [[0, 0], [longer - count, 0], [0, 0]])
    t_s = ops.pad(t_s, [[0, 0], [longer - length, 0], [0, 0]])
    newest = ops.broadcast_to(newest, ops.shape(real))
    return choose(is_cold, simulated, t_s), choose(is_cold, newest, real)


def without_history(batch: Batch, removed: BoolB) -> Batch:
    """Returns the batch with the histories of some rows removed; their targets remain.

    Args:
        batch: from `PreparedDataset.batches`.
        removed: bool [B], True where the history is removed.

    Example:
        >>> batch = {"history": ops.array([[4, 5], [4, 5]])}
        >>> without_history(batch, ops.array([True, False]))["history"].numpy().tolist()
        [[0, 0], [4, 5]]
    """
    return {**batch, "history": ops.where(removed[:, None], PAD, batch["history"])}


def keyed_uniform(keys: KeysB, epoch: Tensor, seed: int) -> FloatB:
    """Returns a number in [0, 1) for each key, determined by key, epoch and seed: float32 [B].

    The keys are mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    TensorFlow's own hashes work on strings, which XLA does not compile. The upper 24 bits are
    returned, as many as a float32 holds exactly.

    Example:
        >>> keys = ops.array([1, 2], "int64")
        >>> first, again, later = (keyed_uniform(keys, epoch, seed=0) for epoch in (0, 0, 1))
        >>> bool(ops.all(first == again)), bool(ops.all(first == later))
        (True, False)
    """
    golden = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = tf.cast(keys, tf.uint64)
    for part in (epoch, seed):
        state = state + golden * (tf.cast(part, tf.uint64) + 1)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            shifted = tf.bitwise.right_shift(state, tf.constant(shift, tf.uint64))
            state = tf.bitwise.bitwise_xor(state, shifted) * tf.constant(factor, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(state, tf.constant(40, tf.uint64)), tf.float32) / 2**24


def decayed_targets(batch: Batch, decay: float, size: int) -> FloatBV:
    """Returns the target of each cold state: a distribution over items, [B, V].

    An item that is k events older than the next item weighs decay^k. With a decay of 0 the next
    item alone counts, as 0^0 = 1.

    Args:
        batch: from `PreparedDataset.batches`; `history` and `target` are read.
        decay: in [0, 1].
        size: V.

    Example:
        >>> batch = {"history": ops.array([[0, 2]]), "target": ops.array([[3]])}
        >>> decayed_targets(batch, decay=0.0, size=4).numpy().tolist()
        [[0.0, 0.0, 0.0, 1.0]]
    """
    items = ops.concatenate([batch["history"], batch["target"][:, :1]], axis=1)  # [B, N+1]
    return decayed_shares(items, decay, size)


def decayed_shares(items: IdsBN, decay: float, size: int) -> FloatBV:
    """Returns each row's distribution over items: one that is k events older weighs decay^k.

    Args:
        items: int [B, N], oldest first; ids below FIRST_ID have no share.
        decay: in [0, 1].
        size: V.

    Example:
        >>> decayed_shares(ops.array([[2, 3]]), decay=0.25, size=4).numpy().tolist()
        [[0.0, 0.0, 0.20000000298023224, 0.800000011920929]]
    """
    age = ops.cast(ops.arange(ops.shape(items)[1])[::-1], "float32")
    return spread(items, ops.broadcast_to(decay**age, ops.shape(items)), size)


def spread(ids: IdsBN, weights: FloatBN, size: int) -> FloatBV:
    """Spreads each row's weights over its known items, scaled to a sum of 1.

    Args:
        ids: int [B, N], item ids.
        weights: float [B, N].
        size: V.

    Returns:
        float32 [B, V]; zeros in a row without a known item.

    Example:
        >>> spread(ops.array([[0, 2, 3]]), ops.array([[1.0, 1.0, 3.0]]), size=4).numpy().tolist()
        [[0.0, 0.0, 0.25, 0.75]]
    """
    weights = ops.where(ids >= FIRST_ID, weights, 0.0)
    n_rows = ops.shape(ids)[0]
    # The place of (row, item) in the flat [B * V].
    place = ids + size * ops.arange(n_rows, dtype=ids.dtype)[:, None]
    total = tf.math.unsorted_segment_sum(weights, place, n_rows * size)
    total = ops.reshape(total, (-1, size))
    return total / ops.maximum(ops.sum(total, axis=1, keepdims=True), 1e-9)

"""Turns scores into ranks and lists, for training, evaluation and serving."""

import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import FloatB, FloatBK, FloatBV, IdsB, IdsBK, IdsBN, Users

_BLOCK_SIZE = 64
# `top_k` looks into blocks when there are more of them than this number times k.
_BLOCKS_PER_ITEM = 4


def exclude(scores: FloatBV, excluded: IdsBN) -> FloatBV:
    """Sets the scores of `excluded` items, PAD and OOV to MASKED_SCORE.

    Args:
        scores: float [B, V].
        excluded: int [B, N] ids, PAD where there is none.

    Returns:
        float32 [B, V].

    Example:
        >>> scores = ops.array([[9.0, 9.0, 0.1, 0.3, 0.2]])  # PAD, OOV and three items
        >>> exclude(scores, ops.array([[3]])).numpy()[0] > MASKED_SCORE
        array([False, False,  True, False,  True])
    """
    for special in range(FIRST_ID):
        excluded = ops.pad(excluded, [[0, 0], [1, 0]], constant_values=special)
    row = tf.cumsum(ops.ones_like(excluded), axis=0, exclusive=True)
    places = ops.stack([row, excluded], axis=2)
    lowest = ops.full_like(excluded, MASKED_SCORE, dtype="float32")
    return tf.tensor_scatter_nd_update(ops.cast(scores, "float32"), places, lowest)


def top_k(scores: FloatBV, k: int) -> tuple[FloatBK, IdsBK]:
    """Returns the K best items of each row.

    Args:
        scores: float [B, V], from `exclude`.
        k: K.

    Returns:
        Scores [B, K] and ids [B, K], best first; PAD where no item is left.

    Example:
        >>> scores = exclude(ops.array([[9.0, 9.0, 0.1, 0.3, 0.2]]), ops.array([[3]]))
        >>> top_k(scores, 3)[1].numpy().tolist()
        [[4, 2, 0]]
    """
    blocks = -(-scores.shape[1] // _BLOCK_SIZE)
    if blocks > _BLOCKS_PER_ITEM * k:
        values, ids = _top_k_by_blocks(scores, k, blocks)
    else:
        values, ids = ops.top_k(scores, k)
    return values, ops.where(values > MASKED_SCORE / 2, ids, PAD)


def _top_k_by_blocks(scores: FloatBV, k: int, blocks: int) -> tuple[FloatBK, IdsBK]:
    """Returns what `ops.top_k` returns, ties included, from the k best blocks of each row.

    Each of the k best items lies in one of the k blocks with the highest maximum. Among equal
    scores, and among equal blocks, the first ones win, as in `ops.top_k`.
    """
    rows, size = ops.shape(scores)[0], scores.shape[1]
    padding = [[0, 0], [0, blocks * _BLOCK_SIZE - size]]
    padded = ops.pad(scores, padding, constant_values=MASKED_SCORE)
    items = ops.reshape(padded, (rows, blocks, _BLOCK_SIZE))
    best = ops.sort(ops.top_k(ops.max(items, axis=2), k, sorted=False)[1], axis=1)  # [B, K]
    candidates = ops.reshape(tf.gather(items, best, batch_dims=1), (rows, k * _BLOCK_SIZE))
    values, at = ops.top_k(candidates, k)
    first = _BLOCK_SIZE * ops.take_along_axis(best, at // _BLOCK_SIZE, axis=1)
    return values, first + at % _BLOCK_SIZE


def recommend(scores: FloatBV, batch: Users, k: int, hides_history: bool = True) -> IdsBK:
    """Returns the ids of the K best items, by default without the history of warm rows.

    Args:
        scores: float [B, V].
        batch: the users; `history` and `is_cold` are read.
        k: K.
        hides_history: whether the history is left out, see `EvaluateConfig.seen_items`.

    Returns:
        int [B, K], best first; PAD where no item is left.

    Example:
        >>> scores = ops.array([[0.0, 0.0, 0.1, 0.3, 0.2]] * 2)
        >>> history, is_cold = ops.array([[0, 3], [0, 0]]), ops.array([False, True])
        >>> recommend(scores, {"history": history, "is_cold": is_cold}, k=2).numpy().tolist()
        [[4, 2], [3, 4]]
    """
    hidden = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
    hidden = hidden if hides_history else hidden[:, :0]
    return top_k(exclude(scores, hidden), k)[1]


def single_item_ndcg(scores: FloatBV, target: IdsB, k: int) -> FloatB:
    """Returns NDCG@K with one relevant item per user, without making lists.

    Args:
        scores: float [B, V], from `exclude`.
        target: int [B].
        k: K.

    Returns:
        float32 [B]: 1 / log2(1 + rank) within the first K, else 0. An unknown or excluded target
        gives 0.

    Example:
        >>> scores = exclude(ops.array([[0.0, 0.0, 0.1, 0.3, 0.2]]), ops.array([[0]]))
        >>> float(single_item_ndcg(scores, ops.array([3]), k=2)[0])  # the best item
        1.0
    """
    target_score = ops.take_along_axis(scores, target[:, None], axis=1)
    # Ties count against the target, and so does NaN: a broken model must not look like the best.
    better = ops.sum(ops.cast(ops.logical_not(scores < target_score), "float32"), axis=1) - 1
    rankable = ops.logical_and(target >= FIRST_ID, target_score[:, 0] > MASKED_SCORE / 2)
    in_list = ops.logical_and(rankable, better < k)
    return ops.where(in_list, ops.log(2.0) / ops.log(better + 2.0), 0.0)

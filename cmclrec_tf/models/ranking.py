"""From scores to ranks and lists, on tensors: used in training, evaluation and serving alike."""

import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID, PAD

# Items of a block, and blocks for each of the k items from which on blocks are worth it.
_BLOCK, _MANY = 64, 4


def shut_out(scores, excluded):
    """Sets the scores of `excluded` items, PAD and OOV to MASKED_SCORE.

    Args:
        scores: [B, V]. excluded: int [B, n] ids, PAD where there is none.
    """
    rows = ops.shape(scores)[0]
    special = ops.broadcast_to(ops.arange(FIRST_ID, dtype=excluded.dtype), (rows, FIRST_ID))
    excluded = ops.concatenate([special, excluded], axis=1)
    row = ops.broadcast_to(ops.arange(rows, dtype=excluded.dtype)[:, None], ops.shape(excluded))
    places = ops.stack([ops.reshape(row, (-1,)), ops.reshape(excluded, (-1,))], axis=1)
    lowest = ops.full(ops.shape(places)[:1], MASKED_SCORE, dtype="float32")
    return ops.scatter_update(ops.cast(scores, "float32"), places, lowest)


def top_k(scores, k):
    """scores [B, V], already shut out -> scores [B, K], ids [B, K]; PAD where no item is left."""
    blocks = -(-scores.shape[1] // _BLOCK)
    values, ids = _of_blocks(scores, k, blocks) if blocks > _MANY * k else ops.top_k(scores, k)
    return values, ops.where(values > MASKED_SCORE / 2, ids, PAD)


def _of_blocks(scores, k, blocks):
    """As `ops.top_k`, ties included: an item of the best k lies in one of the k best blocks.

    Of equal scores, and of equal blocks, the first ones are taken, so nothing is passed over.
    """
    rows, size = ops.shape(scores)[0], scores.shape[1]
    padded = ops.pad(scores, [[0, 0], [0, blocks * _BLOCK - size]], constant_values=MASKED_SCORE)
    items = ops.reshape(padded, (rows, blocks, _BLOCK))
    chosen = ops.sort(ops.top_k(ops.max(items, axis=2), k, sorted=False)[1], axis=1)  # [B, K]
    looked_at = ops.reshape(tf.gather(items, chosen, batch_dims=1), (rows, k * _BLOCK))
    values, at = ops.top_k(looked_at, k)
    first = _BLOCK * ops.take_along_axis(chosen, at // _BLOCK, axis=1)
    return values, first + at % _BLOCK


def recommended(scores, batch, k):
    """scores [B, V] -> ids of the K best items [B, K]; a warm row's history is left out."""
    history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
    return top_k(shut_out(scores, history), k)[1]


def ndcg_of_one(scores, target, k):
    """NDCG@K of a single relevant item per user, without making lists.

    Args:
        scores: [B, V], already shut out. target: int [B].

    Returns:
        float32 [B]: 1 / log2(1 + rank) within the first K, else 0; 0 for a target that is unknown
        or shut out.
    """
    own = ops.take_along_axis(scores, target[:, None], axis=1)
    # Ties count against the item, and so does NaN: a broken model must not look like the best.
    ahead = ops.sum(ops.cast(ops.logical_not(scores < own), "float32"), axis=1) - 1
    possible = ops.logical_and(target >= FIRST_ID, own[:, 0] > MASKED_SCORE / 2)
    found = ops.logical_and(possible, ahead < k)
    return ops.where(found, ops.log(2.0) / ops.log(ahead + 2.0), 0.0)

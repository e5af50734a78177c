"""Eq. (1): two views of a user, Phi_f by disjoint field masks, Phi_s by crop, mask and reorder."""

from keras import ops

from cmclrec_tf.replicas import uniform
from cmclrec_tf.schema import PAD

CROP_SHARE = 0.6
MASK_SHARE = 0.3
REORDER_SHARE = 0.3
CROP, MASK, REORDER = range(3)


def disjoint_field_masks(batch_size, n_fields, share, seed):
    """Eq. (1), Phi_f: which fields each view masks; no field is masked in both.

    Args:
        batch_size, n_fields: B and M.
        share: share of the fields masked in each view, at most .5; at least one field is masked
            when there are two or more.
        seed: a `keras.random.SeedGenerator` or int.

    Returns:
        Two bool tensors [B, M].
    """
    n_masked = max(1, int(round(share * n_fields))) if n_fields > 1 else 0
    n_masked = min(n_masked, n_fields // 2)
    order = ops.argsort(uniform((batch_size, n_fields), seed), axis=1)
    rank = ops.argsort(order, axis=1)  # a random permutation of the fields
    return rank < n_masked, ops.logical_and(rank >= n_masked, rank < 2 * n_masked)


def drop_fields(batch_size, n_fields, rate, seed):
    """Field dropout for cold rows: bool [B, M], each field masked with chance `rate`."""
    return uniform((batch_size, n_fields), seed) < rate


def crop(history, seed):
    """Keeps a random contiguous CROP_SHARE of each history [B, L], moved to the newest end."""
    size = ops.shape(history)[1]
    n = _lengths(history)
    keep = ops.maximum(1, _floor(CROP_SHARE, n))
    # The window ends `skipped` items before the newest one.
    skipped = _uniform_int(n - keep + 1, seed)
    slot = ops.arange(size)[None, :]
    source = slot - skipped
    kept = ops.logical_and(slot >= size - keep, source >= 0)
    moved = ops.take_along_axis(history, ops.maximum(source, 0), axis=1)
    return ops.where(kept, moved, PAD)


def mask(history, seed):
    """Draws bool [B, L]: which items of each history are hidden behind the learned mask vector."""
    drawn = uniform(ops.shape(history), seed) < MASK_SHARE
    return ops.logical_and(drawn, history != PAD)


def reorder(history, seed):
    """Shuffles a random contiguous REORDER_SHARE of each history [B, L]."""
    size = ops.shape(history)[1]
    n = _lengths(history)
    window = _floor(REORDER_SHARE, n)
    start = size - n + _uniform_int(n - window + 1, seed)
    slot = ops.arange(size)[None, :]
    inside = ops.logical_and(slot >= start, slot < start + window)
    noise = uniform(ops.shape(history), seed)
    # Keys inside the window fall between those of its neighbours, in random order.
    key = ops.where(
        inside,
        ops.cast(start, "float32") + noise * ops.cast(window, "float32") * 0.999,
        ops.cast(slot, "float32"),
    )
    return ops.take_along_axis(history, ops.argsort(key, axis=1), axis=1)


def history_views(history, seed):
    """Eq. (1), Phi_s: two views of each history, made by two different functions of the three.

    Args:
        history: int [B, L] ids, left-padded.
        seed: a `keras.random.SeedGenerator`.

    Returns:
        Two pairs (ids [B, L], masked bool [B, L]).
    """
    first = _uniform_int(ops.zeros_like(history[:, :1]) + 3, seed)
    second = (first + 1 + _uniform_int(ops.zeros_like(first) + 2, seed)) % 3
    return tuple(_view(history, function, seed) for function in (first, second))


def _view(history, function, seed):
    ids = ops.where(function == CROP, crop(history, seed), history)
    ids = ops.where(function == REORDER, reorder(history, seed), ids)
    return ids, ops.logical_and(function == MASK, mask(history, seed))


def _lengths(history):
    return ops.sum(ops.cast(history != PAD, "int32"), axis=1, keepdims=True)


def _floor(share, n):
    return ops.cast(ops.floor(share * ops.cast(n, "float32")), "int32")


def _uniform_int(limit, seed):
    """Uniform int32 in [0, limit), elementwise; 0 for limits below 1."""
    drawn = uniform(ops.shape(limit), seed)
    limit = ops.maximum(ops.cast(limit, "float32"), 1.0)
    return ops.cast(ops.minimum(ops.floor(drawn * limit), limit - 1), "int32")

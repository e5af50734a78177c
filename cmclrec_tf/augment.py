"""Eq. (1): makes two random views of a user, by field masks and by changes of the history."""

from keras import ops

from cmclrec_tf.replicas import uniform
from cmclrec_tf.schema import PAD
from cmclrec_tf.types import BoolBL, BoolBM, IdsBL, Seed, Tensor

CROP_SHARE = 0.6
MASK_SHARE = 0.3
REORDER_SHARE = 0.3
CROP, MASK, REORDER = range(3)


def disjoint_field_masks(
    batch_size: int, n_fields: int, share: float, seed: Seed
) -> tuple[BoolBM, BoolBM]:
    """Eq. (1), Phi_f: chooses the fields that each of two views masks, none of them in both.

    Args:
        batch_size: B.
        n_fields: M, the number of user features.
        share: share of the fields masked in each view, at most 0.5; at least one field is masked
            if there are two or more.
        seed: seeds the choice.

    Returns:
        Two bool tensors [B, M], True where a field is masked.

    Example:
        >>> one, two = disjoint_field_masks(batch_size=2, n_fields=6, share=0.5, seed=0)
        >>> bool(ops.all(one != two))  # with half of the fields each, every field is in one
        True
    """
    n_masked = max(1, int(round(share * n_fields))) if n_fields > 1 else 0
    n_masked = min(n_masked, n_fields // 2)
    order = ops.argsort(uniform((batch_size, n_fields), seed), axis=1)
    rank = ops.argsort(order, axis=1)  # a random permutation of the fields
    return rank < n_masked, ops.logical_and(rank >= n_masked, rank < 2 * n_masked)


def drop_fields(batch_size: int, n_fields: int, rate: float, seed: Seed) -> BoolBM:
    """Field dropout: returns a bool mask [B, M], True with probability `rate`."""
    return uniform((batch_size, n_fields), seed) < rate


def crop(history: IdsBL, seed: Seed) -> IdsBL:
    """Keeps a random contiguous CROP_SHARE of each history [B, L], moved to the newest end."""
    size = ops.shape(history)[1]
    n = _lengths(history)
    keep = ops.maximum(1, _floor(CROP_SHARE, n))
    # The window ends `skipped` items before the newest one.
    skipped = _uniform_int(n - keep + 1, seed)
    slot = ops.arange(size)[None, :]
    source = slot - skipped
    filled = ops.logical_and(slot >= size - keep, source >= 0)
    moved = ops.take_along_axis(history, ops.maximum(source, 0), axis=1)
    return ops.where(filled, moved, PAD)


def mask(history: IdsBL, seed: Seed) -> BoolBL:
    """Selects a random MASK_SHARE of the items of each history; True where an item is hidden."""
    selected = uniform(ops.shape(history), seed) < MASK_SHARE
    return ops.logical_and(selected, history != PAD)


def reorder(history: IdsBL, seed: Seed) -> IdsBL:
    """Shuffles a random contiguous REORDER_SHARE of each history [B, L]."""
    size = ops.shape(history)[1]
    n = _lengths(history)
    window = _floor(REORDER_SHARE, n)
    start = size - n + _uniform_int(n - window + 1, seed)
    slot = ops.arange(size)[None, :]
    inside = ops.logical_and(slot >= start, slot < start + window)
    noise = uniform(ops.shape(history), seed)
    # Sort keys inside the window lie between those of its neighbours, in random order.
    key = ops.where(
        inside,
        ops.cast(start, "float32") + noise * ops.cast(window, "float32") * 0.999,
        ops.cast(slot, "float32"),
    )
    return ops.take_along_axis(history, ops.argsort(key, axis=1), axis=1)


def history_views(history: IdsBL, seed: Seed) -> tuple[tuple[IdsBL, BoolBL], tuple[IdsBL, BoolBL]]:
    """Eq. (1), Phi_s: makes two views of each history by two of `crop`, `mask` and `reorder`.

    Args:
        history: int [B, L] ids, left-padded.
        seed: seeds the choice of functions and their randomness; a `keras.random.SeedGenerator`.

    Returns:
        Two pairs of ids [B, L] and a bool mask [B, L], True where an item is hidden behind the
        learned mask vector.
    """
    first = _uniform_int(ops.zeros_like(history[:, :1]) + 3, seed)
    second = (first + 1 + _uniform_int(ops.zeros_like(first) + 2, seed)) % 3
    return _view(history, first, seed), _view(history, second, seed)


def _view(history: IdsBL, function: Tensor, seed: Seed) -> tuple[IdsBL, BoolBL]:
    """Applies to each row the function (CROP, MASK or REORDER) that `function` [B, 1] names."""
    ids = ops.where(function == CROP, crop(history, seed), history)
    ids = ops.where(function == REORDER, reorder(history, seed), ids)
    return ids, ops.logical_and(function == MASK, mask(history, seed))


def _lengths(history: IdsBL) -> Tensor:
    """Returns the number of items in each history, int32 [B, 1]."""
    return ops.sum(ops.cast(history != PAD, "int32"), axis=1, keepdims=True)


def _floor(share: float, n: Tensor) -> Tensor:
    return ops.cast(ops.floor(share * ops.cast(n, "float32")), "int32")


def _uniform_int(limit: Tensor, seed: Seed) -> Tensor:
    """Uniform int32 in [0, limit), elementwise; 0 for limits below 1."""
    fraction = uniform(ops.shape(limit), seed)
    limit = ops.maximum(ops.cast(limit, "float32"), 1.0)
    return ops.cast(ops.minimum(ops.floor(fraction * limit), limit - 1), "int32")

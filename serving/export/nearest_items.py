"""Finds the real items that are nearest to simulated positions."""

import tensorflow as tf
from keras import ops

from cmclrec_tf.models import ranking
from cmclrec_tf.types import FloatBLD, FloatVD, Tensor

# Lengths below this one count as this one, so that a zero vector has the cosine 0.
_SHORTEST = 1e-9


def nearest_items(simulated: FloatBLD, table: FloatVD, n: int) -> tuple[Tensor, Tensor]:
    """Returns the n items with the highest cosine to each position; PAD and OOV never count.

    The cosine ignores lengths. An inner product favours items with long embeddings, which are the
    popular ones, whatever the position says.

    Args:
        simulated: float [B, S, D].
        table: float [V, D], the item embeddings.
        n: at most the number of items.

    Returns:
        Cosines float32 [B, S, n] and ids int32 [B, S, n], nearest first.

    Example:
        >>> table = ops.array([[9.0, 9.0], [9.0, 9.0], [0.0, 1.0], [5.0, 5.0]])  # 2 items
        >>> cosines, ids = nearest_items(ops.array([[[0.0, 7.0], [3.0, 3.0]]]), table, 1)
        >>> ids.numpy().tolist(), cosines.numpy().round(3).tolist()
        ([[[2], [3]]], [[[1.0], [1.0]]])
    """
    simulated, table = ops.cast(simulated, "float32"), ops.cast(table, "float32")
    directions = simulated / _lengths(simulated)
    items, lengths = ops.transpose(table), _lengths(table)[:, 0]

    def of_position(rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the nearest items of one position of all users, rows float [B, D]."""
        cosines = ops.matmul(rows, items) / lengths
        nothing = ops.zeros((ops.shape(rows)[0], 0), "int32")
        return ranking.top_k(ranking.exclude(cosines, nothing), n)

    # One position after the other: scores of all items take the memory of one list, not of S.
    cosines, ids = tf.map_fn(
        of_position,
        ops.transpose(directions, (1, 0, 2)),
        fn_output_signature=(tf.float32, tf.int32),
        parallel_iterations=1,
    )
    return ops.transpose(cosines, (1, 0, 2)), ops.transpose(ids, (1, 0, 2))


def _lengths(vectors: Tensor) -> Tensor:
    """Returns the lengths of vectors [..., D], [..., 1]."""
    return ops.maximum(ops.sqrt(ops.sum(vectors**2, axis=-1, keepdims=True)), _SHORTEST)

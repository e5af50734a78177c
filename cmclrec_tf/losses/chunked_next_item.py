"""Eq. (14) over the whole catalogue, without ever holding the scores of all positions."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.types import FloatN, FloatND, FloatV, FloatVD, IdsN, Scalar, Tensor

# `chunked_next_item` holds at most MAX_SCORES scores at a time, of MIN_ROWS to MAX_ROWS positions.
# Small chunks stay in the cache; large ones add less often to the gradient of the table.
MAX_SCORES = 1 << 25
MIN_ROWS, MAX_ROWS = 32, 512


def chunked_next_item(
    states: FloatND,
    table: FloatVD,
    bias: FloatV,
    labels: IdsN,
    weights: FloatN,
    rows: int | None = None,
) -> Scalar:
    """sum_i w_i times Eq. (14) of position i, exact, without ever holding [N, V] scores.

    The same pass computes the gradient, `rows` positions at a time. The time is that of three
    matrix products; the memory is that of [rows, V] scores and of the gradients.

    Args:
        states: float [N, D].
        table: float [V, D], the item embeddings.
        bias: float [V].
        labels: int [N]; ids below FIRST_ID give 0.
        weights: float [N]; no gradient flows to them.
        rows: most positions at a time; by default as many as MAX_SCORES allows.

    Returns:
        float32 scalar.

    Example:
        >>> from keras import ops
        >>> states, table = ops.zeros((3, 8)), ops.zeros((4, 8))  # two items tie everywhere
        >>> loss = chunked_next_item(states, table, ops.zeros(4), ops.array([2, 3, 0]), ops.ones(3))
        >>> round(float(loss), 4)  # 2 log 2; the last label is padding
        1.3863
    """
    weights = tf.where(labels >= FIRST_ID, tf.cast(weights, tf.float32), 0.0)
    labels = tf.maximum(labels, FIRST_ID)
    rows = rows or int(np.clip(MAX_SCORES // table.shape[0], MIN_ROWS, MAX_ROWS))

    @tf.custom_gradient
    def weighted_sum(
        states: FloatND, table: FloatVD, bias: FloatV
    ) -> tuple[Scalar, Callable[[Scalar], list[Tensor]]]:
        total, *gradients = _forward_and_gradient(states, table, bias, labels, weights, rows)
        return total, lambda upstream: [upstream * gradient for gradient in gradients]

    return weighted_sum(*(tf.cast(x, tf.float32) for x in (states, table, bias)))


def _forward_and_gradient(
    states: FloatND, table: FloatVD, bias: FloatV, labels: IdsN, weights: FloatN, rows: int
) -> tuple[Scalar, FloatND, FloatVD, FloatV]:
    """Returns the weighted sum, and its gradients by states [N, D], table [V, D] and bias [V].

    Besides the products, passes over the scores dominate the time, so there are few of them. One
    operation overwrites the scores by their softmax. Then log sum exp = highest score - log
    highest probability, which is at least 1 / V and so never 0.
    """
    # XLA needs chunks of one size: positions of weight 0 fill up the last one.
    n = tf.shape(states)[0]
    chunks = tf.maximum(-(-n // rows), 1)
    rows = -(-n // chunks)

    def chunked(x: Tensor) -> Tensor:
        """Returns x [N, ...] as [chunks, rows, ...]."""
        x = tf.pad(x, [[0, chunks * rows - n]] + [[0, 0]] * (len(x.shape) - 1))
        return tf.reshape(x, [chunks, rows, *x.shape[1:]])

    parts = chunked(states), chunked(weights), chunked(labels)
    d_rows = tf.TensorArray(tf.float32, size=chunks)
    # PAD and OOV keep their rows: cutting them off would copy the table.
    masked_bias = tf.where(tf.range(tf.size(bias)) >= FIRST_ID, bias, MASKED_SCORE)

    def body(
        i: Tensor, total: Scalar, d_rows: tf.TensorArray, d_table: Tensor, d_bias: FloatV
    ) -> tuple[Tensor, Scalar, tf.TensorArray, Tensor, FloatV]:
        g, weight, label = (part[i] for part in parts)
        target = tf.gather(table, label)
        label_score = tf.reduce_sum(g * target, axis=1) + tf.gather(bias, label)
        scores = tf.matmul(g, table, transpose_b=True) + masked_bias
        highest = tf.reduce_max(scores, axis=1)
        # TensorFlow reuses the memory of the scores only if nothing else still needs them.
        with tf.control_dependencies([highest]):
            probabilities = tf.nn.softmax(scores)
        log_sum = highest - tf.math.log(tf.reduce_max(probabilities, axis=1))
        loss = tf.reduce_sum(weight * (log_sum - label_score))
        weight = weight[:, None]
        d_state = weight * (tf.matmul(probabilities, table) - target)
        # As [D, V]: this product is faster than the one that gives [V, D].
        d_table += tf.matmul(weight * g, probabilities, transpose_a=True)
        d_bias += tf.matmul(weight, probabilities, transpose_a=True)[0]
        return i + 1, total + loss, d_rows.write(i, d_state), d_table, d_bias

    d_table = tf.zeros([table.shape[1], tf.shape(table)[0]])
    start = (0, 0.0, d_rows, d_table, tf.zeros_like(bias))
    _, total, d_rows, d_table, d_bias = tf.while_loop(
        lambda i, *_: i < chunks, body, start, parallel_iterations=1
    )
    d_table = tf.ensure_shape(tf.transpose(d_table), table.shape)
    d_table = tf.tensor_scatter_nd_sub(d_table, labels[:, None], weights[:, None] * states)
    d_bias = tf.tensor_scatter_nd_sub(d_bias, labels[:, None], weights)
    d_states = tf.reshape(d_rows.stack(), [-1, states.shape[1]])[:n]
    return total, d_states, d_table, d_bias

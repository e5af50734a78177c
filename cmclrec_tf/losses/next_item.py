"""Eq. (14): the recommendation loss over the whole catalogue, or over sampled items."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.types import (
    FloatB,
    FloatBV,
    FloatN,
    FloatND,
    FloatV,
    FloatVD,
    IdsN,
    Scalar,
    Seed,
    Tensor,
)

# `chunked_next_item` holds at most so many scores at a time, for so many positions. Small products
# stay in the cache; large ones mean fewer additions to the gradient of the table.
MAX_SCORES = 1 << 25
MIN_ROWS, MAX_ROWS = 32, 512


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
        rows: positions at a time; by default as many as MAX_SCORES allows.

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
    n = tf.shape(states)[0]
    d_rows = tf.TensorArray(tf.float32, size=-(-n // rows), infer_shape=False)
    # PAD and OOV keep their rows: cutting them off would copy the table.
    masked_bias = tf.where(tf.range(tf.size(bias)) >= FIRST_ID, bias, MASKED_SCORE)

    def body(
        i: Tensor, total: Scalar, d_rows: tf.TensorArray, d_table: Tensor, d_bias: FloatV
    ) -> tuple[Tensor, Scalar, tf.TensorArray, Tensor, FloatV]:
        part = slice(i * rows, (i + 1) * rows)
        g, weight, label = states[part], weights[part, None], labels[part]
        target = tf.gather(table, label)
        label_score = tf.reduce_sum(g * target, axis=1) + tf.gather(bias, label)
        scores = tf.matmul(g, table, transpose_b=True) + masked_bias
        highest = tf.reduce_max(scores, axis=1)
        # TensorFlow reuses the memory of the scores only if nothing else still needs them.
        with tf.control_dependencies([highest]):
            probabilities = tf.nn.softmax(scores)
        log_sum = highest - tf.math.log(tf.reduce_max(probabilities, axis=1))
        loss = tf.reduce_sum(weights[part] * (log_sum - label_score))
        d_state = weight * (tf.matmul(probabilities, table) - target)
        # As [D, V]: this product is faster than the one that gives [V, D].
        d_table += tf.matmul(weight * g, probabilities, transpose_a=True)
        d_bias += tf.matmul(weight, probabilities, transpose_a=True)[0]
        return i + 1, total + loss, d_rows.write(i, d_state), d_table, d_bias

    d_table = tf.zeros([table.shape[1], tf.shape(table)[0]])
    start = (0, 0.0, d_rows, d_table, tf.zeros_like(bias))
    _, total, d_rows, d_table, d_bias = tf.while_loop(
        lambda i, *_: i * rows < n, body, start, parallel_iterations=1
    )
    d_table = tf.ensure_shape(tf.transpose(d_table), table.shape)
    d_table = tf.tensor_scatter_nd_sub(d_table, labels[:, None], weights[:, None] * states)
    d_bias = tf.tensor_scatter_nd_sub(d_bias, labels[:, None], weights)
    d_states = tf.ensure_shape(d_rows.concat(), states.shape)
    return total, d_states, d_table, d_bias


def sampled_next_item(
    states: FloatND,
    table: FloatVD,
    bias: FloatV,
    labels: IdsN,
    weights: FloatN,
    negatives: IdsN,
    log_q: FloatV,
) -> Scalar:
    """sum_i w_i times Eq. (14) over the label and shared sampled items, with log-Q correction.

    Frequently sampled items would be punished too often; their scores are lowered by the log of
    their chance to be sampled. The score of the label is not corrected, and a negative that
    equals the label does not count.

    Args:
        states, table, bias, labels, weights: see `chunked_next_item`.
        negatives: int [n] ids, sampled with replacement from the distribution q.
        log_q: float [V], the log probability of each item in one draw.

    Returns:
        float32 scalar.

    Source: Bengio and Senécal, IEEE TNN 19(4), 2008.

    Example:
        >>> from keras import ops
        >>> states, table, log_q = ops.zeros((1, 8)), ops.zeros((4, 8)), ops.zeros(4)
        >>> one = (states, table, ops.zeros(4), ops.array([2]), ops.ones(1))
        >>> round(float(sampled_next_item(*one, ops.array([3]), log_q)), 4)  # log 2
        0.6931
    """
    states, table = ops.cast(states, "float32"), ops.cast(table, "float32")
    weights = ops.where(labels >= FIRST_ID, ops.cast(weights, "float32"), 0.0)
    safe = ops.cast(ops.maximum(labels, FIRST_ID), "int32")
    label_score = ops.sum(states * ops.take(table, safe, axis=0), axis=1) + ops.take(bias, safe)
    count = ops.cast(ops.shape(negatives)[0], "float32")
    negative_scores = ops.matmul(states, ops.transpose(ops.take(table, negatives, axis=0)))
    negative_scores += ops.take(bias - log_q, negatives)[None] - ops.log(count)  # [N, n]
    negative_scores = ops.where(negatives[None] == safe[:, None], MASKED_SCORE, negative_scores)
    scores = ops.concatenate([label_score[:, None], negative_scores], axis=1)
    return ops.sum(weights * (ops.logsumexp(scores, axis=1) - label_score))


def sample_zipf(n: int, size: int, seed: Seed) -> tuple[IdsN, FloatV]:
    """Samples items by Zipf's law of their rank; ids are in the order of popularity.

    P(id) = log((r + 2) / (r + 1)) / log(R + 1) for rank r = id - FIRST_ID of R items.

    Args:
        n: the number of samples, with replacement.
        size: V.
        seed: a `keras.random.SeedGenerator`, or an int for the same samples every time.

    Returns:
        int32 [n] ids, and float32 [V], log P; PAD and OOV are never sampled and have 0.

    Example:
        >>> import keras
        >>> ids, log_p = sample_zipf(1000, 10, keras.random.SeedGenerator(0))
        >>> ids.shape, log_p.shape, int(min(ids)), int(max(ids))
        (TensorShape([1000]), TensorShape([10]), 2, 9)
    """
    return zipf_quantiles(keras.random.uniform((n,), seed=seed), size)


def zipf_quantiles(shares: FloatN, size: int) -> tuple[IdsN, FloatV]:
    """Returns the quantiles of the law of `sample_zipf`.

    Args:
        shares: float [n] in [0, 1), the cumulative probabilities.
        size: V.

    Returns:
        See `sample_zipf`.

    Example:
        >>> from keras import ops
        >>> ids, _ = zipf_quantiles(ops.array([0.0, 0.5, 0.99]), 10)
        >>> ids.numpy().tolist()
        [2, 4, 9]
    """
    items = size - FIRST_ID
    rank = ops.floor(ops.exp(shares * math.log(items + 1.0)) - 1.0)
    ids = ops.cast(ops.clip(rank, 0, items - 1), "int32") + FIRST_ID
    r = np.arange(items)
    log_p = np.log(np.log1p(1.0 / (r + 1)) / math.log(items + 1.0))
    return ids, ops.convert_to_tensor(np.pad(log_p, [FIRST_ID, 0]).astype("float32"))

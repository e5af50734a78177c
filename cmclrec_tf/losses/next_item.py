"""Eq. (14): the recommendation loss over the whole catalogue."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID

# Scores that are held at a time, and the rows of states that they are of: small products stay in
# the cache, and the gradient of the table is added to as seldom as memory allows.
HELD_SCORES = 1 << 25
LEAST_ROWS, MOST_ROWS = 32, 512


def next_item(scores, labels):
    """Eq. (14): -(score of the label - log sum of exp(scores over all items)).

    The printed softmax inside the softmax is read as the plain softmax cross-entropy.

    Args:
        scores: [..., V], PAD and OOV already at -inf or very low.
        labels: int [...]; ids below FIRST_ID (padding, unknown item) give 0.

    Returns:
        float32 [...], the loss of each position.
    """
    scores = ops.cast(scores, "float32")
    safe = ops.maximum(labels, FIRST_ID)
    chosen = ops.squeeze(ops.take_along_axis(scores, safe[..., None], axis=-1), axis=-1)
    return ops.where(labels >= FIRST_ID, ops.logsumexp(scores, axis=-1) - chosen, 0.0)


def soft_next_item(scores, shares):
    """Eq. (14) with several right answers: -sum_i shares_i log softmax(scores)_i.

    Args:
        scores: [B, V]. shares: [B, V], each row sums to 1, or to 0 where there is no answer.

    Returns:
        float32 [B].
    """
    scores = ops.cast(scores, "float32")
    mass = ops.sum(shares, axis=1)
    # Items that cannot be recommended have a share of 0; their score must not become NaN.
    return mass * ops.logsumexp(scores, axis=1) - ops.sum(shares * scores, axis=1)


def chunked_next_item(states, table, bias, labels, weights, rows=None):
    """sum_i w_i times Eq. (14) of position i, exact, without ever holding [N, V] scores.

    The gradient is made in the same pass, `rows` positions at a time, so time is that of three
    matrix products and memory that of [rows, V] and of the gradients themselves.

    Args:
        states: [N, D]. table: [V, D], the item embeddings. bias: [V].
        labels: int [N]; ids below FIRST_ID give 0.
        weights: [N], constants; no gradient goes to them.
        rows: positions at a time; by default as many as `HELD_SCORES` allow.

    Returns:
        float32 scalar.
    """
    weights = tf.where(labels >= FIRST_ID, tf.cast(weights, tf.float32), 0.0)
    labels = tf.maximum(labels, FIRST_ID)
    rows = rows or int(np.clip(HELD_SCORES // table.shape[0], LEAST_ROWS, MOST_ROWS))

    @tf.custom_gradient
    def weighted_sum(states, table, bias):
        total, *gradients = _forward_and_gradient(states, table, bias, labels, weights, rows)
        return total, lambda upstream: [upstream * gradient for gradient in gradients]

    return weighted_sum(*(tf.cast(x, tf.float32) for x in (states, table, bias)))


def _forward_and_gradient(states, table, bias, labels, weights, rows):
    """The weighted sum, and its gradients by states [N, D], table [V, D] and bias [V].

    Passes over the scores are what costs beside the products: one operation makes the softmax in
    the place of the scores, and log sum exp = highest score - log highest probability, which is
    at least 1 / V and so never 0.
    """
    n = tf.shape(states)[0]
    d_rows = tf.TensorArray(tf.float32, size=-(-n // rows), infer_shape=False)
    # PAD and OOV keep their rows, as cutting them off would copy the table.
    shut = tf.where(tf.range(tf.size(bias)) >= FIRST_ID, bias, MASKED_SCORE)

    def body(i, total, d_rows, d_table, d_bias):
        part = slice(i * rows, (i + 1) * rows)
        g, weight, label = states[part], weights[part, None], labels[part]
        answer = tf.gather(table, label)
        chosen = tf.reduce_sum(g * answer, axis=1) + tf.gather(bias, label)
        scores = tf.matmul(g, table, transpose_b=True) + shut
        highest = tf.reduce_max(scores, axis=1)
        # The softmax takes the place of the scores only once nothing else waits for them.
        with tf.control_dependencies([highest]):
            chances = tf.nn.softmax(scores)
        log_sum = highest - tf.math.log(tf.reduce_max(chances, axis=1))
        loss = tf.reduce_sum(weights[part] * (log_sum - chosen))
        d_state = weight * (tf.matmul(chances, table) - answer)
        # [D, V], as this product is quicker than that of the chances turned.
        d_table += tf.matmul(weight * g, chances, transpose_a=True)
        d_bias += tf.matmul(weight, chances, transpose_a=True)[0]
        return i + 1, total + loss, d_rows.write(i, d_state), d_table, d_bias

    nothing = tf.zeros([table.shape[1], tf.shape(table)[0]])
    start = (0, 0.0, d_rows, nothing, tf.zeros_like(bias))
    _, total, d_rows, d_table, d_bias = tf.while_loop(
        lambda i, *_: i * rows < n, body, start, parallel_iterations=1
    )
    d_table = tf.ensure_shape(tf.transpose(d_table), table.shape)
    d_table = tf.tensor_scatter_nd_sub(d_table, labels[:, None], weights[:, None] * states)
    d_bias = tf.tensor_scatter_nd_sub(d_bias, labels[:, None], weights)
    d_states = tf.ensure_shape(d_rows.concat(), states.shape)
    return total, d_states, d_table, d_bias


def sampled_next_item(states, table, bias, labels, weights, negatives, log_q):
    """sum_i w_i times Eq. (14) over the label and shared sampled items, with log-Q correction.

    Args:
        states, table, bias, labels, weights: see `chunked_next_item`.
        negatives: int [n] ids, drawn with replacement from the distribution q.
        log_q: [V], log of the chance of each item in one draw.

    Returns:
        float32 scalar. Source of the correction: Bengio and Senécal, IEEE TNN 19(4), 2008; the
        label's own score is not corrected, and a negative equal to the label does not count.
    """
    states, table = ops.cast(states, "float32"), ops.cast(table, "float32")
    weights = ops.where(labels >= FIRST_ID, ops.cast(weights, "float32"), 0.0)
    safe = ops.cast(ops.maximum(labels, FIRST_ID), "int32")
    own = ops.sum(states * ops.take(table, safe, axis=0), axis=1) + ops.take(bias, safe)
    count = ops.cast(ops.shape(negatives)[0], "float32")
    others = ops.matmul(states, ops.transpose(ops.take(table, negatives, axis=0)))  # [N, n]
    others += ops.take(bias - log_q, negatives)[None] - ops.log(count)
    others = ops.where(negatives[None] == safe[:, None], MASKED_SCORE, others)
    scores = ops.concatenate([own[:, None], others], axis=1)
    return ops.sum(weights * (ops.logsumexp(scores, axis=1) - own))


def sample_zipf(n, size, seed):
    """Draws items by Zipf's law of their rank: ids are in the order of popularity.

    P(id) = log((r + 2) / (r + 1)) / log(R + 1) for rank r = id - FIRST_ID of R items.

    Args:
        n: how many, with replacement. size: V. seed: a `keras.random.SeedGenerator`.

    Returns:
        int32 [n] ids, and log P [V]; PAD and OOV have none and are never drawn.
    """
    return zipf_quantiles(keras.random.uniform((n,), seed=seed), size)


def zipf_quantiles(shares, size):
    """`sample_zipf` at given shares of the law, [n] in [0, 1), instead of drawn ones."""
    items = size - FIRST_ID
    rank = ops.floor(ops.exp(shares * math.log(items + 1.0)) - 1.0)
    ids = ops.cast(ops.clip(rank, 0, items - 1), "int32") + FIRST_ID
    r = np.arange(items)
    log_p = np.log(np.log1p(1.0 / (r + 1)) / math.log(items + 1.0))
    return ids, ops.convert_to_tensor(np.pad(log_p, [FIRST_ID, 0]).astype("float32"))

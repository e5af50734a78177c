"""Gradient steps that adapt a model to one user, shared by the meta-learning baselines."""

import math
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf
from keras import ops

from cmclrec_tf.config import BaselineConfig
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.sampled_next_item import zipf_quantiles
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.types import FloatB, FloatBD, FloatBN, FloatV, IdsBL, IdsBN, IdsN, Tensor

Negatives: TypeAlias = tuple[IdsN, FloatV]
"""Sampled item ids [n], and the log probability of every item [V], see `sample_zipf`."""


def adapt(
    values: list[Tensor], loss_of: Callable[[list[Tensor]], FloatB], steps: int, rate: float
) -> list[Tensor]:
    """Takes gradient steps on a loss; gradients flow through the steps.

    Args:
        values: tensors [B, ...], one row per user.
        loss_of: maps values to losses [B]; the loss of a user depends on that user's rows alone.
        steps: number of steps.
        rate: step size.

    Returns:
        The values after the steps.

    Example:
        >>> x = ops.array([[1.0], [2.0]])
        >>> (x,) = adapt([x], lambda values: ops.sum(values[0] ** 2, axis=1), steps=1, rate=0.25)
        >>> x.numpy().tolist()  # x - 0.25 * 2 x
        [[0.5], [1.0]]
    """
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(loss_of(values))
        values = [v - rate * g for v, g in zip(values, tape.gradient(loss, values), strict=True)]
    return values


def adapt_states(
    states: FloatBD,
    items: Callable[[IdsBN], Tensor],
    history: IdsBL,
    negatives: Negatives,
    settings: BaselineConfig,
) -> tuple[FloatBD, FloatB]:
    """Adapts user states by gradient steps on the loss of ranking the history's items.

    Args:
        states: [B, D].
        items: maps ids [...] to embeddings [..., D].
        history: int [B, L].
        negatives: sampled items that the history's items are ranked among.
        settings: `BaselineConfig` with the number and size of the steps.

    Returns:
        The states [B, D] after the steps, and the loss [B] before them.

    Example:
        >>> import keras
        >>> items, history = keras.layers.Embedding(9, 4), ops.array([[0, 3, 5]])
        >>> states, negatives = ops.ones((1, 4)), spread_negatives(2, 9)
        >>> after, _ = adapt_states(states, items, history, negatives, BaselineConfig())
        >>> after.shape
        TensorShape([1, 4])
    """
    embedded, noise = items(history), items(negatives[0])  # [B, L, D], [n, D]

    def loss_of(values: list[Tensor]) -> FloatB:
        scores = ops.einsum("bd,bld->bl", values[0], embedded)
        noise_scores = ops.matmul(values[0], ops.transpose(noise))
        return sampled_loss(scores, noise_scores, history, *negatives)

    after = adapt([states], loss_of, settings.inner_steps, settings.inner_rate)[0]
    return after, loss_of([states])


def sampled_loss(
    item_scores: FloatBN,
    negative_scores: Tensor,
    items: IdsBN,
    ids: IdsN,
    log_q: FloatV,
    seen: IdsBN | None = None,
) -> FloatB:
    """Softmax cross-entropy of each item among sampled negatives, mean over the known items.

    Args:
        item_scores: [B, m], scores of `items`.
        negative_scores: [B, n], scores of `ids`, or [B, m, n] if they depend on the position.
        items: int [B, m]; ids below FIRST_ID do not count.
        ids, log_q: int [n] and [V], see `Negatives`.
        seen: int [B, s], more items that are not used as negatives; see `Baseline.item_loss`.

    Returns:
        float [B]; 0 for a user without known items.

    Example:
        >>> ids, log_q = ops.array([3]), ops.zeros(9)
        >>> loss = sampled_loss(ops.zeros((1, 1)), ops.zeros((1, 1)), ops.array([[2]]), ids, log_q)
        >>> round(float(loss[0]), 4)  # log 2
        0.6931
    """
    negative_scores = negative_scores - ops.take(log_q, ids) - math.log(ids.shape[0])
    if len(negative_scores.shape) == 2:
        negative_scores = negative_scores[:, None]
    excluded = items[:, :, None] == ids  # [B, m, n]
    if seen is not None:
        excluded = excluded | ops.any(seen[:, :, None] == ids, axis=1)[:, None]
    negative_scores = ops.where(excluded, MASKED_SCORE, negative_scores)
    scores = ops.concatenate([item_scores[:, :, None], negative_scores], axis=2)
    known = ops.cast(items >= FIRST_ID, "float32")
    loss = (ops.logsumexp(scores, axis=2) - item_scores) * known
    return ops.sum(loss, axis=1) / ops.maximum(ops.sum(known, axis=1), 1.0)


def spread_negatives(n: int, size: int) -> Negatives:
    """Returns n items at equal steps of the distribution of `sample_zipf`, the same every time.

    Args:
        n: number of items.
        size: V.

    Example:
        >>> spread_negatives(4, 50)[0].numpy().tolist()
        [2, 5, 12, 31]
    """
    return zipf_quantiles((ops.arange(n, dtype="float32") + 0.5) / n, size)

"""Eq. (14) over sampled items, and the sampler."""

import math

import keras
import numpy as np
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.types import FloatN, FloatND, FloatV, FloatVD, IdsN, Scalar, Seed


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
        states, table, bias, labels, weights: see `chunked_next_item.chunked_next_item`.
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

"""Losses and the metric of models that predict a set of items, or a user's events."""

from typing import Any

import keras
import numpy as np
from keras import ops

from cmclrec_tf.losses.next_item import soft_next_item
from cmclrec_tf.models.cold_rows import decayed_shares
from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import FloatB, FloatBV, IdsBN, KerasConfig, Tensor

# Weight of an event relative to the next newer one.
_DECAY = 0.8


@keras.saving.register_keras_serializable("cmclrec_tf")
def soft_next_items(items: IdsBN, scores: FloatBV) -> FloatB:
    """Softmax cross-entropy with equal shares for all of a user's items.

    log sum exp(scores) - mean score of the user's items

    Args:
        items: int [B, m], distinct, padded with PAD.
        scores: float [B, V].

    Returns:
        float [B].

    Example:
        >>> items, scores = ops.array([[2, 3]]), ops.array([[-1e9, -1e9, 0.0, 0.0]])
        >>> round(float(soft_next_items(items, scores)[0]), 4)  # log 2
        0.6931
    """
    known = ops.cast(items >= FIRST_ID, "float32")
    item_scores = ops.take_along_axis(scores, ops.cast(items, "int32"), axis=1)
    total = ops.sum(ops.where(known > 0, item_scores, 0.0), axis=1)
    return ops.logsumexp(scores, axis=1) - total / ops.maximum(ops.sum(known, axis=1), 1)


@keras.saving.register_keras_serializable("cmclrec_tf")
def decayed_next_items(items: IdsBN, scores: FloatBV) -> FloatB:
    """Softmax cross-entropy where an event's item weighs less the older the event is.

    Args:
        items: int [B, m], the newest one last, padded with PAD on the left.
        scores: float [B, V].

    Returns:
        float32 [B].

    Example:
        >>> items, scores = ops.array([[0, 3]]), ops.array([[-1e9, -1e9, 0.0, 0.0]])
        >>> round(float(decayed_next_items(items, scores)[0]), 4)  # log 2
        0.6931
    """
    shares = decayed_shares(ops.cast(items, "int32"), _DECAY, scores.shape[1])
    return soft_next_item(scores, shares)


@keras.saving.register_keras_serializable("cmclrec_tf")
class NDCG(keras.metrics.Mean):
    """Mean NDCG@k of scores [B, V] for distinct items int [B, m], padded with PAD.

    Args:
        k: the cut of the list and of the ideal list.
        name: of the metric.

    Example:
        >>> metric = NDCG(k=2)
        >>> metric.update_state(ops.array([[3]]), ops.array([[-1e9, -1e9, 0.0, 1.0]]))
        >>> float(metric.result())
        1.0
    """

    def __init__(self, k: int = 20, name: str = "ndcg", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.k = k

    def update_state(
        self, items: IdsBN, scores: FloatBV, sample_weight: Tensor | None = None
    ) -> None:
        k = min(self.k, scores.shape[1])
        _, lists = ops.top_k(scores, k)  # [B, K]
        items = ops.cast(items, "int32")
        hit = ops.any(lists[:, :, None] == items[:, None, :], axis=2)
        hit = ops.logical_and(hit, lists != PAD)
        discounts = 1 / np.log2(np.arange(2, k + 2)).astype("float32")
        ideal = np.concatenate([[0], np.cumsum(discounts)]).astype("float32")
        n = ops.sum(ops.cast(items != PAD, "int32"), axis=1)
        best = ops.take(ideal, ops.minimum(n, k))
        gained = ops.sum(ops.cast(hit, "float32") * discounts, axis=1)
        super().update_state(gained / ops.maximum(best, 1e-9))

    def get_config(self) -> KerasConfig:
        return {"name": self.name, "dtype": self.dtype, "k": self.k}

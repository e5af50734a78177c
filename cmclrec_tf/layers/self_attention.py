"""The single-head self-attention of the cross-modal module, Eqs. (5)-(7)."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE, attention_mask
from cmclrec_tf.types import BoolBN, FloatBND, KerasConfig


@keras.saving.register_keras_serializable("cmclrec_tf")
class SelfAttention(keras.layers.Layer):
    """Eqs. (5)-(7): b_i = sum_j alpha_ij M3 a_j, alpha = softmax_j(M1 a_i . M2 a_j / sqrt(D)).

    Each token becomes a weighted mean of the tokens that it may see. Padded tokens get no weight
    and come out as zeros.

    Args:
        width: D.
        causal: whether token i sees only tokens j <= i.

    Example:
        >>> from keras import ops
        >>> ops.shape(SelfAttention(width=8)(ops.ones((3, 5, 8))))
        (3, 5, 8)
    """

    def __init__(self, width: int, causal: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.causal = width, causal
        self.m1 = Dense(width, use_bias=False, name="m1")
        self.m2 = Dense(width, use_bias=False, name="m2")
        self.m3 = Dense(width, use_bias=False, name="m3")

    def call(self, a: FloatBND, mask: BoolBN | None = None) -> FloatBND:
        """Returns b [B, N, D] for tokens a [B, N, D]; mask bool [B, N] is False for padding."""
        sigma1, sigma2, sigma3 = self.m1(a), self.m2(a), self.m3(a)  # Eq. (5), [B, N, D]
        similarity = ops.matmul(sigma1, ops.swapaxes(sigma2, 1, 2)) / self.width**0.5
        allowed = attention_mask(ops.shape(a)[1], mask, self.causal)
        # In float32, since a sum of float16 exponentials can overflow.
        similarity = ops.where(allowed, ops.cast(similarity, "float32"), MASKED_SCORE)
        alpha = ops.cast(ops.softmax(similarity, axis=-1), sigma3.dtype)  # Eq. (6), [B, N, N]
        b = ops.matmul(alpha, sigma3)  # Eq. (7), [B, N, D]
        return b if mask is None else b * ops.cast(mask[:, :, None], b.dtype)

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "width": self.width, "causal": self.causal}

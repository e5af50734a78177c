"""Eqs. (5)-(7): the single-head self-attention of the cross-modal module."""

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE, attention_mask


@keras.saving.register_keras_serializable("cmclrec_tf")
class SelfAttention(keras.layers.Layer):
    """Eqs. (5)-(7): b_i = sum_j alpha_ij M3 a_j, alpha = softmax_j(M1 a_i . M2 a_j / sqrt(d)).

    Padded tokens get no weight and come out as zeros.

    Args:
        width: D of the output and d of the comparison.
        causal: whether token i sees only tokens j <= i.
    """

    def __init__(self, width, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.width, self.causal = width, causal
        self.m1 = Dense(width, use_bias=False, name="m1")
        self.m2 = Dense(width, use_bias=False, name="m2")
        self.m3 = Dense(width, use_bias=False, name="m3")

    def call(self, a, mask=None):
        """a [B, n, D], mask bool [B, n] -> b [B, n, D]."""
        sigma1, sigma2, sigma3 = self.m1(a), self.m2(a), self.m3(a)  # Eq. (5), [B, n, D]
        similarity = ops.matmul(sigma1, ops.swapaxes(sigma2, 1, 2)) / self.width**0.5
        allowed = attention_mask(ops.shape(a)[1], mask, self.causal)
        # In float32: the sum of a row of float16 exponentials can overflow.
        similarity = ops.where(allowed, ops.cast(similarity, "float32"), MASKED_SCORE)
        alpha = ops.cast(ops.softmax(similarity, axis=-1), sigma3.dtype)  # Eq. (6), [B, n, n]
        b = ops.matmul(alpha, sigma3)  # Eq. (7), [B, n, D]
        return b if mask is None else b * ops.cast(mask[:, :, None], b.dtype)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "causal": self.causal}

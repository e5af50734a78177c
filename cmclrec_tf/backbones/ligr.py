"""LiGR blocks on SASRec, as in eSASRec: Tikhonovich et al., RecSys 2025; LiGR: Borisyuk et al.,
From Features to Transformers, 2025."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import blank, register
from cmclrec_tf.backbones.sasrec import SASRec
from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import newest_positions


@register("ligr")
class LiGR(SASRec):
    """SASRec whose residual branches are gated and whose feed-forward layers are SwiGLU."""

    def new_block(self):
        return LiGRBlock(self.config.width, self.config.heads, self.config.dropout)


@keras.saving.register_keras_serializable("cmclrec_tf")
class LiGRBlock(keras.layers.Layer):
    """x + F(norm(x)) * sigmoid(x W), for F = attention and then F = SwiGLU.

    SwiGLU(x) = W_o (silu(W_g x) * W_i x), 4 D wide as in eSASRec.

    Args:
        width: D. heads: attention heads; they divide D. dropout: of both halves.
    """

    def __init__(self, width, heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads, self.rate = width, heads, dropout
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.attention = MultiHeadAttention(width, heads, dropout, causal=True)
        self.attention_gate = Dense(width, activation="sigmoid", name="attention_gate")
        self.inner_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.inner = Dense(8 * width, use_bias=False, name="inner")  # W_g and W_i
        self.outer = Dense(width, use_bias=False, name="outer")
        self.inner_gate = Dense(width, activation="sigmoid", name="inner_gate")
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, x, mask, training=None, newest=None):
        """x [B, L, D], mask bool [B, L] -> [B, L, D]; padded positions come out as zeros.

        With `newest`, of the newest positions only: [B, newest, D].
        """
        y = self.attention(self.attention_norm(x), mask, training=training, newest=newest)
        x, mask = newest_positions(x, newest), newest_positions(mask, newest)
        x = x + self.dropout(y * self.attention_gate(x), training=training)
        gate, value = ops.split(self.inner(self.inner_norm(x)), 2, axis=-1)  # 2 x [B, L, 4 D]
        y = self.outer(ops.silu(gate) * value)
        x = x + self.dropout(y * self.inner_gate(x), training=training)
        return blank(x, mask)

    def get_config(self):
        own = {"width": self.width, "heads": self.heads, "dropout": self.rate}
        return {**super().get_config(), **own}

"""Implements SASRec with LiGR blocks, as in eSASRec: Tikhonovich et al., RecSys 2025; LiGR:
Borisyuk et al., From Features to Transformers, 2025."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import blank, register
from cmclrec_tf.backbones.sasrec import SASRec
from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.types import BoolBL, FloatBLD, KerasConfig


@register("ligr")
class LiGR(SASRec):
    """SASRec with gated residual branches and SwiGLU feed-forward layers.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = LiGR(5, ModelConfig(width=8, heads=2))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def new_block(self) -> keras.layers.Layer:
        return LiGRBlock(self.config.width, self.config.heads, self.config.dropout)


@keras.saving.register_keras_serializable("cmclrec_tf")
class LiGRBlock(keras.layers.Layer):
    """x <- x + F(norm(x)) * sigmoid(x W + b), for F = attention and then F = SwiGLU.

    SwiGLU(x) = W_o (silu(W_g x) * W_i x), 4 D wide as in eSASRec.

    Args:
        width: D.
        heads: attention heads, a divisor of D.
        dropout: dropout rate of the attention weights and of both branches.

    Example:
        >>> from keras import ops
        >>> block = LiGRBlock(width=8, heads=2)
        >>> ops.shape(block(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
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

    def call(
        self,
        x: FloatBLD,
        mask: BoolBL,
        training: bool | None = None,
        newest: int | None = None,
    ) -> FloatBLD:
        """Returns the block's output [B, L, D], zeros at padding.

        Args:
            x: float [B, L, D].
            mask: bool [B, L], True where there is an item.
            training: whether dropout is on.
            newest: computes only this many newest positions, [B, newest, D].
        """
        y = self.attention(self.attention_norm(x), mask, training=training, newest=newest)
        x, mask = newest_positions(x, newest), newest_positions(mask, newest)
        x = x + self.dropout(y * self.attention_gate(x), training=training)
        gate, value = ops.split(self.inner(self.inner_norm(x)), 2, axis=-1)  # 2 x [B, L, 4 D]
        y = self.outer(ops.silu(gate) * value)
        x = x + self.dropout(y * self.inner_gate(x), training=training)
        return blank(x, mask)

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
        }

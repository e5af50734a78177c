"""Implements HSTU: Zhai et al., Actions Speak Louder than Words, ICML 2024."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.attention import split_heads
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import attention_mask
from cmclrec_tf.layers.transformer_block import Positions
from cmclrec_tf.types import BoolBL, BoolBN, FloatBLD, FloatBND, KerasConfig


@register("hstu")
class HSTU(Backbone):
    """Pointwise attention units over the history, without softmax and feed-forward layers.

    The paper's bias has a part for the time between two items and a part for their distance. A
    backbone sees no times, so only the second part remains.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = HSTU(5, ModelConfig(width=8, heads=2))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width, heads, dropout = self.config.width, self.config.heads, self.config.dropout
        self.positions = Positions(length, width)
        self.dropout = keras.layers.Dropout(dropout)
        self.blocks = [HSTUBlock(length, width, heads, dropout) for _ in range(self.config.blocks)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L]."""
        x = blank(self.dropout(self.positions(x), training=training), mask)
        for block in self.blocks:
            x = block(x, mask, training=training)
        return blank(self.norm(x), mask)


@keras.saving.register_keras_serializable("cmclrec_tf")
class HSTUBlock(keras.layers.Layer):
    """Eqs. (1)-(3) of the paper, with pre-norm and a residual around them.

    U, V, Q, K = silu(f1(norm(x))); A_ij = silu(Q_i K_j^T + r_{i-j}) / L for real j <= i, else 0;
    y = x + f2(norm(A V) * U).

    The sum is divided by the longest length L, not by the number of items seen: how often a user
    showed an interest counts, which a softmax would hide.

    Args:
        length: L.
        width: D.
        heads: attention heads, a divisor of D.
        dropout: dropout rate of the gated states.

    Example:
        >>> from keras import ops
        >>> block = HSTUBlock(length=5, width=8, heads=2)
        >>> ops.shape(block(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(
        self, length: int, width: int, heads: int, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.length, self.width, self.heads, self.rate = length, width, heads, dropout
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.project = Dense(4 * width, activation="silu", name="project")
        self.attended_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.dropout = keras.layers.Dropout(dropout)
        self.out = Dense(width, name="out")
        self.distance = self.add_weight(
            shape=(length,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="distance",
        )

    def call(self, x: FloatBND, mask: BoolBN, training: bool | None = None) -> FloatBND:
        """Returns y [B, N, D] for x [B, N, D], mask [B, N], N <= L; zeros at padding."""
        n = ops.shape(x)[1]
        u, v, q, k = split_heads(self.project(self.norm(x)), 4, self.heads)  # 4 x H x [B, N, d]
        behind = ops.arange(n)[:, None] - ops.arange(n)[None, :]  # i - j
        bias = ops.take(self.distance, ops.maximum(behind, 0), axis=0)[None]  # [1, N, N]
        allowed = attention_mask(n, mask, causal=True)  # [B, N, N]
        share = ops.cast(allowed, x.dtype) / self.length
        attended = [
            ops.matmul(ops.silu(ops.matmul(qh, ops.transpose(kh, (0, 2, 1))) + bias) * share, vh)
            for vh, qh, kh in zip(v, q, k, strict=True)
        ]
        gated = self.attended_norm(ops.concatenate(attended, axis=-1)) * ops.concatenate(u, axis=-1)
        return blank(x + self.out(self.dropout(gated, training=training)), mask)

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "length": self.length,
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
        }

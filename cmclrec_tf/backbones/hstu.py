"""HSTU: Zhai et al., Actions Speak Louder than Words, ICML 2024."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.attention import split_heads
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import attention_mask
from cmclrec_tf.layers.transformer_block import Positions


@register("hstu")
class HSTU(Backbone):
    """Pointwise attention units over the history; no softmax and no feed-forward layer.

    The paper's bias has a part for the time between two items; a backbone knows no times, so the
    part for their distance stands alone.
    """

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        config = self.config
        self.positions = Positions(length, config.width)
        self.dropout = keras.layers.Dropout(config.dropout)
        self.blocks = [
            HSTUBlock(length, config.width, config.heads, config.dropout)
            for _ in range(config.blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D]."""
        x = blank(self.dropout(self.positions(x), training=training), mask)
        for block in self.blocks:
            x = block(x, mask, training=training)
        return blank(self.norm(x), mask)


@keras.saving.register_keras_serializable("cmclrec_tf")
class HSTUBlock(keras.layers.Layer):
    """Eqs. (1)-(3) of the paper, with pre-norm and a residual around them.

    U, V, Q, K = silu(f1(norm(x))); A_ij = silu(Q_i K_j' + r_{i-j}) / L for real j <= i, else 0;
    y = x + f2(norm(A V) * U).

    The sum is divided by the longest length L, not by what is seen: how much there is of an
    interest counts, which a softmax would hide.

    Args:
        length: L. width: D. heads: they divide D. dropout: of the gated states.
    """

    def __init__(self, length, width, heads, dropout=0.0, **kwargs):
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

    def call(self, x, mask, training=None):
        """x [B, n, D], mask bool [B, n], n <= L -> [B, n, D]; padded positions are zeros."""
        n = ops.shape(x)[1]
        u, v, q, k = split_heads(self.project(self.norm(x)), 4, self.heads)  # 4 x H x [B, n, d]
        behind = ops.arange(n)[:, None] - ops.arange(n)[None, :]  # i - j
        bias = ops.take(self.distance, ops.maximum(behind, 0), axis=0)[None]  # [1, n, n]
        allowed = attention_mask(n, mask, causal=True)  # [B, n, n]
        share = ops.cast(allowed, x.dtype) / self.length
        attended = [
            ops.matmul(ops.silu(ops.matmul(qh, ops.transpose(kh, (0, 2, 1))) + bias) * share, vh)
            for vh, qh, kh in zip(v, q, k, strict=True)
        ]
        gated = self.attended_norm(ops.concatenate(attended, axis=-1)) * ops.concatenate(u, axis=-1)
        return blank(x + self.out(self.dropout(gated, training=training)), mask)

    def get_config(self):
        own = {"length": self.length, "width": self.width, "heads": self.heads}
        return {**super().get_config(), **own, "dropout": self.rate}

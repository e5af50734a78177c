"""SASRec: Kang and McAuley, ICDM 2018."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, register
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock


@register("sasrec")
class SASRec(Backbone):
    """Causal self-attention blocks over the history, positions counted from the newest item."""

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        config = self.config
        self.positions = Positions(length, config.width)
        self.dropout = keras.layers.Dropout(config.dropout)
        self.blocks = [
            TransformerBlock(config.width, config.heads, config.dropout)
            for _ in range(config.blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D]."""
        real = ops.cast(mask[:, :, None], x.dtype)
        x = self.dropout(self.positions(x), training=training) * real
        for block in self.blocks:
            x = block(x, mask, training=training)
        return self.norm(x) * real

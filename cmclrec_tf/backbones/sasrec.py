"""SASRec: Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018."""

import keras

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock


@register("sasrec")
class SASRec(Backbone):
    """Causal self-attention blocks over the history, positions counted from the newest item."""

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        self.positions = Positions(length, self.config.width)
        self.dropout = keras.layers.Dropout(self.config.dropout)
        self.blocks = [self.new_block() for _ in range(self.config.blocks)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def new_block(self):
        """One of the `blocks`: a layer `(x, mask, training) -> x`."""
        return TransformerBlock(self.config.width, self.config.heads, self.config.dropout)

    def call(self, x, mask, training=None, newest=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D], or its newest positions [B, newest, D]."""
        x = blank(self.dropout(self.positions(x), training=training), mask)
        *lower, top = self.blocks
        for block in lower:
            x = block(x, mask, training=training)
        x = top(x, mask, training=training, newest=newest)
        return blank(self.norm(x), newest_positions(mask, newest))

    def state(self, x, mask, training=None):
        """As in `Backbone`; the last block makes one position only."""
        return self(x, mask, training=training, newest=1)[:, 0]

"""BERT4Rec: Sun et al., Sequential Recommendation with Bidirectional Encoder Representations from
Transformer, CIKM 2019."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock


@register("bert4rec")
class BERT4Rec(Backbone):
    """Transformer blocks that see both sides, trained to tell hidden items.

    `call` appends the mask vector as an item newer than all others and answers with the states
    one slot further on, so the user's state is that of the mask vector. `cloze` is the same
    network on a history as it is: its newest slot is the one the mask vector has in `call`, so
    hiding the newest item is training for `call`.
    """

    causal = False

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        config = self.config
        self.positions = Positions(length + 1, config.width)
        self.dropout = keras.layers.Dropout(config.dropout)
        self.blocks = [
            TransformerBlock(config.width, config.heads, config.dropout, causal=False)
            for _ in range(config.blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.mask_vector = self.add_weight(
            shape=(config.width,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D], G at t in the slot of item t+1."""
        vector = ops.broadcast_to(ops.cast(self.mask_vector, x.dtype), ops.shape(x[:, :1]))
        longer = ops.concatenate([x, vector], axis=1)  # [B, L+1, D]
        real = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
        return blank(self.cloze(longer, real, training)[:, 1:], mask)

    def cloze(self, x, mask, training=None):
        """x [B, n, D], mask bool [B, n], n <= L+1 -> states [B, n, D] of the same positions."""
        x = ops.cast(x, self.compute_dtype)
        x = blank(self.dropout(self.positions(x), training=training), mask)
        for block in self.blocks:
            x = block(x, mask, training=training)
        return blank(self.norm(x), mask)

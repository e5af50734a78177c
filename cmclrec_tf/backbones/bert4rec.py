"""Implements BERT4Rec: Sun et al., Sequential Recommendation with Bidirectional Encoder
Representations from Transformer, CIKM 2019."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock
from cmclrec_tf.types import BoolBL, BoolBN, FloatBLD, FloatBND, KerasConfig


@register("bert4rec")
class BERT4Rec(Backbone):
    """Transformer blocks that see both sides, trained to predict hidden items.

    `call` appends the mask vector as an item newer than all others and returns the states one
    position later, so the user's state is that of the mask vector. `cloze` is the same network on
    the history itself. Its newest position is the one that the mask vector has in `call`, so
    hiding the newest item trains `call`.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = BERT4Rec(5, ModelConfig(width=8, heads=2))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    causal = False

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width, heads, dropout = self.config.width, self.config.heads, self.config.dropout
        self.positions = Positions(length + 1, width)
        self.dropout = keras.layers.Dropout(dropout)
        self.blocks = [
            TransformerBlock(width, heads, dropout, causal=False) for _ in range(self.config.blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.mask_vector = self.add_weight(
            shape=(width,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )

    def call(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L]; G at t predicts item t+1."""
        vector = ops.broadcast_to(ops.cast(self.mask_vector, x.dtype), ops.shape(x[:, :1]))
        longer = ops.concatenate([x, vector], axis=1)  # [B, L+1, D]
        real = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
        return blank(self.cloze(longer, real, training)[:, 1:], mask)

    def cloze(self, x: FloatBND, mask: BoolBN, training: bool | None = None) -> FloatBND:
        """Returns the states [B, N, D] of the positions of x [B, N, D], mask [B, N]; N <= L+1."""
        x = ops.cast(x, self.compute_dtype)
        x = blank(self.dropout(self.positions(x), training=training), mask)
        for block in self.blocks:
            x = block(x, mask, training=training)
        return blank(self.norm(x), mask)

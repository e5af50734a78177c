"""Implements SASRec: Kang and McAuley, Self-Attentive Sequential Recommendation, ICDM 2018."""

from typing import Any

import keras

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock
from cmclrec_tf.types import BoolBL, FloatBD, FloatBLD, KerasConfig


@register("sasrec")
class SASRec(Backbone):
    """Causal self-attention blocks over the history; positions count from the newest item.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = SASRec(5, ModelConfig(width=8, heads=2))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        self.positions = Positions(length, self.config.width)
        self.dropout = keras.layers.Dropout(self.config.dropout)
        self.blocks = [self.new_block() for _ in range(self.config.blocks)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def new_block(self) -> keras.layers.Layer:
        """Creates one of the `blocks`, a layer (x, mask, training, newest) -> x."""
        return TransformerBlock(self.config.width, self.config.heads, self.config.dropout)

    def call(
        self,
        x: FloatBLD,
        mask: BoolBL,
        training: bool | None = None,
        newest: int | None = None,
    ) -> FloatBLD:
        """Returns G [B, L, D].

        Args:
            x: float [B, L, D], embedded histories.
            mask: bool [B, L], True where there is an item.
            training: whether dropout is on.
            newest: computes only this many newest positions, [B, newest, D].
        """
        x = blank(self.dropout(self.positions(x), training=training), mask)
        *lower, top = self.blocks
        for block in lower:
            x = block(x, mask, training=training)
        x = top(x, mask, training=training, newest=newest)
        return blank(self.norm(x), newest_positions(mask, newest))

    def state(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBD:
        """Returns the users' states [B, D]; the last block computes one position only."""
        return self(x, mask, training=training, newest=1)[:, 0]

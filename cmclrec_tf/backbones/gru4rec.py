"""Implements GRU4Rec: Hidasi et al., Session-based Recommendations with Recurrent Neural Networks,
ICLR 2016."""

from typing import Any

import keras

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.types import BoolBL, FloatBLD, KerasConfig


@register("gru4rec")
class GRU4Rec(Backbone):
    """Stacked GRUs over the history, with a linear layer on top.

    `blocks` is the number of GRUs; `heads` is not used. The recurrence starts at the first real
    item: padding is skipped, not read as an item.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = GRU4Rec(5, ModelConfig(width=8))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        self.dropout = keras.layers.Dropout(self.config.dropout)
        # Without cuDNN: its kernels refuse left padding, and a graph exported with them needs a
        # GPU.
        self.recurrent = [
            keras.layers.GRU(self.config.width, return_sequences=True, use_cudnn=False)
            for _ in range(self.config.blocks)
        ]
        self.out = Dense(self.config.width, name="out")

    def call(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L]."""
        x = blank(x, mask)
        for gru in self.recurrent:
            x = gru(self.dropout(x, training=training), mask=mask)
        return blank(self.out(x), mask)

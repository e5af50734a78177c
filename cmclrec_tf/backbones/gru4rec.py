"""GRU4Rec: Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR
2016."""

import keras

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.dense import Dense


@register("gru4rec")
class GRU4Rec(Backbone):
    """Stacked GRUs over the history, a linear layer on top.

    `blocks` is the number of GRUs, `heads` is not used. The state starts at the first real item:
    padding is skipped, not read as an item.
    """

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        self.dropout = keras.layers.Dropout(self.config.dropout)
        # Not cuDNN's: its kernels refuse left padding, and a graph exported with them needs a GPU.
        self.recurrent = [
            keras.layers.GRU(self.config.width, return_sequences=True, use_cudnn=False)
            for _ in range(self.config.blocks)
        ]
        self.out = Dense(self.config.width, name="out")

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D]."""
        x = blank(x, mask)
        for gru in self.recurrent:
            x = gru(self.dropout(x, training=training), mask=mask)
        return blank(self.out(x), mask)

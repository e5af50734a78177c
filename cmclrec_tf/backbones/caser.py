"""Implements Caser: Tang and Wang, Personalized Top-N Sequential Recommendation via Convolutional
Sequence Embedding, WSDM 2018."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.types import BoolBL, FloatBLD, FloatBND, KerasConfig

# The paper's L, the number of newest items that a state sees, and its number of vertical filters.
MARKOV_ORDER = 5
VERTICAL_FILTERS = 4


@register("caser")
class Caser(Backbone):
    """Horizontal and vertical convolutions over the "image" of the newest items, E^t [W, D].

    o = [max over the window of relu(F_h * E^t) for every height h <= W], D / 4 filters per height;
    o~ = [sum_w f_w E^t_w], 4 filters; z = relu(W [o, o~] + b); G = W' z + b'.

    Every position t has its own window, the W newest items up to t, so every position has a
    state. Items before the first one are zeros, and no filter ends on one of them. `blocks` and
    `heads` are not used: the paper's network has one layer.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = Caser(5, ModelConfig(width=8))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width = self.config.width
        self.order = min(MARKOV_ORDER, length)
        self.horizontal = [
            keras.layers.Conv1D(max(1, width // 4), height, padding="causal", activation="relu")
            for height in range(1, self.order + 1)
        ]
        self.vertical = Dense(VERTICAL_FILTERS, use_bias=False, name="vertical")
        self.dropout = keras.layers.Dropout(self.config.dropout)
        self.inner = Dense(width, activation="relu", name="inner")
        self.out = Dense(width, name="out")

    def call(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L]."""
        x = blank(x, mask)
        rows = [self._horizontal(conv, x, mask) for conv in self.horizontal]  # W x [B, L, F]
        window = ops.stack([delay(x, by) for by in range(self.order)], axis=-1)  # [B, L, D, W]
        columns = self.vertical(window)  # [B, L, D, 4]
        columns = ops.reshape(columns, (-1, ops.shape(x)[1], self.config.width * VERTICAL_FILTERS))
        both = self.dropout(ops.concatenate([*rows, columns], axis=-1), training=training)
        return blank(self.out(self.inner(both)), mask)

    def _horizontal(self, conv: keras.layers.Layer, x: FloatBLD, mask: BoolBL) -> FloatBND:
        """Returns the highest output of each filter inside the window of each position."""
        outputs = blank(conv(x), mask)  # [B, L, F], at the position where the filter ends; >= 0
        highest = outputs
        for by in range(1, self.order - conv.kernel_size[0] + 1):
            highest = ops.maximum(highest, delay(outputs, by))
        return highest


def delay(x: FloatBND, by: int) -> FloatBND:
    """Shifts a sequence to later positions; zeros come before the first.

    Args:
        x: float [B, N, D].
        by: the number of positions.

    Returns:
        float [B, N, D]: at t, x at t - by.

    Example:
        >>> from keras import ops
        >>> delay(ops.array([[[1.0], [2.0], [3.0]]]), by=1).numpy().tolist()
        [[[0.0], [1.0], [2.0]]]
    """
    return ops.pad(x, [[0, 0], [by, 0], [0, 0]])[:, : ops.shape(x)[1]]

"""Caser: Tang and Wang, Personalized Top-N Sequential Recommendation via Convolutional Sequence
Embedding, WSDM 2018."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.dense import Dense

# The paper's L: how many newest items each state is made of. And its number of vertical filters.
MARKOV_ORDER = 5
VERTICAL_FILTERS = 4


@register("caser")
class Caser(Backbone):
    """Horizontal and vertical convolutions over the "image" of the newest items, E^t [W, D].

    o = [max over the window of relu(F_h * E^t) for every height h <= W], D / 4 filters a height;
    o~ = [sum_w f_w E^t_w], 4 filters; z = relu(W [o, o~] + b); G = W' z + b'.

    Every position t has its own window, the W newest items up to t, so every position has a
    state. Items before the first one are zeros, and no filter ends on one of them. `blocks` and
    `heads` are not used: the paper's network has one layer.
    """

    def __init__(self, length, config, **kwargs):
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

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D]."""
        x = blank(x, mask)
        found = [self._horizontal(conv, x, mask) for conv in self.horizontal]  # W x [B, L, F]
        window = ops.stack([delay(x, by) for by in range(self.order)], axis=-1)  # [B, L, D, W]
        columns = self.vertical(window)  # [B, L, D, 4]
        columns = ops.reshape(columns, (-1, ops.shape(x)[1], self.config.width * VERTICAL_FILTERS))
        seen = self.dropout(ops.concatenate([*found, columns], axis=-1), training=training)
        return blank(self.out(self.inner(seen)), mask)

    def _horizontal(self, conv, x, mask):
        """The strongest answer of each filter inside the window of each position: [B, L, F]."""
        answers = blank(conv(x), mask)  # at the position where the filter ends; never below 0
        best = answers
        for by in range(1, self.order - conv.kernel_size[0] + 1):
            best = ops.maximum(best, delay(answers, by))
        return best


def delay(x, by):
    """x [B, n, C], what stood `by` positions earlier; zeros before the first."""
    return ops.pad(x, [[0, 0], [by, 0], [0, 0]])[:, : ops.shape(x)[1]]

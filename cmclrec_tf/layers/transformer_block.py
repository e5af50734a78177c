"""One pre-norm transformer block and the positions that go in front of it."""

import keras
from keras import ops

from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import newest_positions


@keras.saving.register_keras_serializable("cmclrec_tf")
class TransformerBlock(keras.layers.Layer):
    """Multi-head attention and a feed-forward layer, each behind a LayerNorm and a residual.

    Args:
        width: D. heads: attention heads; they divide D. dropout: of both halves.
        causal: whether a position sees only itself and older ones.
    """

    def __init__(self, width, heads, dropout=0.0, causal=True, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads, self.rate, self.causal = width, heads, dropout, causal
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.attention = MultiHeadAttention(width, heads, dropout, causal)
        self.inner_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.inner = Dense(width * 2, activation="gelu")
        self.outer = Dense(width)
        self.dropout = keras.layers.Dropout(dropout)

    def call(self, x, mask, training=None, newest=None):
        """x [B, L, D], mask bool [B, L] -> [B, L, D]; padded positions come out as zeros.

        With `newest`, of the newest positions only: [B, newest, D].
        """
        y = self.attention(self.attention_norm(x), mask, training=training, newest=newest)
        x, mask = newest_positions(x, newest), newest_positions(mask, newest)
        x = x + self.dropout(y, training=training)
        y = self.outer(self.inner(self.inner_norm(x)))
        x = x + self.dropout(y, training=training)
        return x * ops.cast(mask[:, :, None], x.dtype)

    def get_config(self):
        own = {"width": self.width, "heads": self.heads, "dropout": self.rate}
        return {**super().get_config(), **own, "causal": self.causal}


@keras.saving.register_keras_serializable("cmclrec_tf")
class Positions(keras.layers.Layer):
    """Learned positions, counted from the newest item: padding on the left changes nothing.

    Args:
        length: most positions, L. width: D.
    """

    def __init__(self, length, width, **kwargs):
        super().__init__(**kwargs)
        self.length, self.width = length, width

    def build(self, _) -> None:
        self.table = self.add_weight(
            shape=(self.length, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, x):
        """x [B, n, D], n <= L -> x + positions."""
        n = ops.shape(x)[1]
        return x + ops.cast(self.table, x.dtype)[None, self.length - n :]

    def get_config(self):
        return {**super().get_config(), "length": self.length, "width": self.width}

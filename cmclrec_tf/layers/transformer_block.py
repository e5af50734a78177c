"""A pre-norm transformer block, and the positions that are added before the first block."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.types import BoolBL, FloatBLD, KerasConfig


@keras.saving.register_keras_serializable("cmclrec_tf")
class TransformerBlock(keras.layers.Layer):
    """x <- x + attention(norm(x)); x <- x + MLP(norm(x)).

    Args:
        width: D.
        heads: attention heads, a divisor of D.
        dropout: dropout rate of the attention weights and of both branches.
        causal: whether a position sees only itself and older ones.

    Example:
        >>> from keras import ops
        >>> block = TransformerBlock(width=8, heads=2)
        >>> ops.shape(block(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, causal: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.rate, self.causal = width, heads, dropout, causal
        self.attention_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.attention = MultiHeadAttention(width, heads, dropout, causal)
        self.inner_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.inner = Dense(width * 2, activation="gelu")
        self.outer = Dense(width)
        self.dropout = keras.layers.Dropout(dropout)

    def call(
        self,
        x: FloatBLD,
        mask: BoolBL,
        training: bool | None = None,
        newest: int | None = None,
    ) -> FloatBLD:
        """Returns the block's output [B, L, D], zeros at padding.

        Args:
            x: float [B, L, D].
            mask: bool [B, L], True where there is an item.
            training: whether dropout is on.
            newest: computes only this many newest positions, [B, newest, D].
        """
        y = self.attention(self.attention_norm(x), mask, training=training, newest=newest)
        x, mask = newest_positions(x, newest), newest_positions(mask, newest)
        x = x + self.dropout(y, training=training)
        y = self.outer(self.inner(self.inner_norm(x)))
        x = x + self.dropout(y, training=training)
        return x * ops.cast(mask[:, :, None], x.dtype)

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
            "causal": self.causal,
        }


@keras.saving.register_keras_serializable("cmclrec_tf")
class Positions(keras.layers.Layer):
    """Adds learned positions, counted from the newest item, so padding on the left is harmless.

    Args:
        length: L, the largest number of positions.
        width: D.

    Example:
        >>> from keras import ops
        >>> ops.shape(Positions(length=5, width=8)(ops.ones((3, 4, 8))))
        (3, 4, 8)
    """

    def __init__(self, length: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length, self.width = length, width

    def build(self, _: object) -> None:
        self.table = self.add_weight(
            shape=(self.length, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, x: FloatBLD) -> FloatBLD:
        """Returns x [B, N, D] plus the vectors of its positions; N <= L."""
        n = ops.shape(x)[1]
        return x + ops.cast(self.table, x.dtype)[None, self.length - n :]

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "length": self.length, "width": self.width}

"""Encodes histories of item embeddings by Psi_s of Eq. (2)."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock
from cmclrec_tf.types import BoolBL, FloatBLD, KerasConfig


@keras.saving.register_keras_serializable("cmclrec_tf")
class SequenceEncoder(keras.layers.Layer):
    """Eq. (2), Psi_s: h_s = Transformer(item embeddings + positions).

    Args:
        length: L.
        width: D.
        blocks: the number of transformer blocks.
        heads: attention heads of each block, a divisor of D.
        dropout: dropout rate of the input and of each block.
        causal: whether a position sees only itself and older ones.

    Example:
        >>> from keras import ops
        >>> encoder = SequenceEncoder(length=5, width=8, heads=2)
        >>> ops.shape(encoder(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(
        self,
        length: int,
        width: int,
        blocks: int = 1,
        heads: int = 1,
        dropout: float = 0.0,
        causal: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "length": length,
            "width": width,
            "blocks": blocks,
            "heads": heads,
            "dropout": dropout,
            "causal": causal,
        }
        self.positions = Positions(length, width)
        self.dropout = keras.layers.Dropout(dropout)
        self.blocks = [TransformerBlock(width, heads, dropout, causal) for _ in range(blocks)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def build(self, _: object) -> None:
        self.mask_vector = self.add_weight(
            shape=(self.settings["width"],),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )

    def call(
        self,
        items: FloatBLD,
        mask: BoolBL,
        masked: BoolBL | None = None,
        training: bool | None = None,
    ) -> FloatBLD:
        """Returns h_s [B, L, D], zeros at padding.

        Args:
            items: float [B, L, D], item embeddings.
            mask: bool [B, L], True where there is an item.
            masked: bool [B, L], items that a learned vector hides; None hides nothing.
            training: whether dropout is on.
        """
        if masked is not None:
            vector = ops.cast(self.mask_vector, items.dtype)
            items = ops.where(masked[:, :, None], vector[None, None], items)
        real = ops.cast(mask[:, :, None], items.dtype)
        x = self.dropout(self.positions(items), training=training) * real
        for block in self.blocks:
            x = block(x, mask, training=training)
        return self.norm(x) * real

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), **self.settings}

"""Psi_s of Eq. (2): item embeddings to encoded histories."""

import keras
from keras import ops

from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock


@keras.saving.register_keras_serializable("cmclrec_tf")
class SequenceEncoder(keras.layers.Layer):
    """Eq. (2), Psi_s: h_s = Transformer(item embeddings + positions).

    Args:
        length: L. width: D. blocks, heads, dropout: of the transformer.
        causal: whether a position sees only itself and older ones.
    """

    def __init__(self, length, width, blocks=1, heads=1, dropout=0.0, causal=True, **kwargs):
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

    def build(self, _) -> None:
        self.mask_vector = self.add_weight(
            shape=(self.settings["width"],),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )

    def call(self, items, mask, masked=None, training=None):
        """items [B, L, D], mask bool [B, L] (real items), masked bool [B, L] -> h_s [B, L, D]."""
        if masked is not None:
            vector = ops.cast(self.mask_vector, items.dtype)
            items = ops.where(masked[:, :, None], vector[None, None], items)
        real = ops.cast(mask[:, :, None], items.dtype)
        x = self.dropout(self.positions(items), training=training) * real
        for block in self.blocks:
            x = block(x, mask, training=training)
        return self.norm(x) * real

    def get_config(self):
        return {**super().get_config(), **self.settings}

"""The autoencoders of Eq. (8)."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.types import BoolBN, FloatBND, FloatBZ, KerasConfig


@keras.saving.register_keras_serializable("cmclrec_tf")
class Autoencoder(keras.layers.Layer):
    """Eq. (8): p = E(T), T^ = D(p), for tokens T [B, N, D] and their code p [B, Z].

    It compresses a sequence of tokens into one code and decodes the code back. A cold user's
    features go through the encoder of one autoencoder and the decoder of another, which yields
    the simulated history. Call the layer, or `build` it, before `encode` or `decode` alone.

    Args:
        tokens: the number of tokens: M for user features, S for histories.
        width: D.
        latent: Z.

    Example:
        >>> from keras import ops
        >>> autoencoder = Autoencoder(tokens=5, width=8, latent=4)
        >>> histories = ops.ones((3, 5, 8))
        >>> ops.shape(autoencoder(histories)), ops.shape(autoencoder.encode(histories))
        ((3, 5, 8), (3, 4))
    """

    def __init__(self, tokens: int, width: int, latent: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens, self.width, self.latent = tokens, width, latent
        self.encoder = keras.Sequential(
            [Dense(2 * latent, activation="gelu"), Dense(latent)],
            name="encoder",
        )
        self.decoder = keras.Sequential(
            [Dense(2 * latent, activation="gelu"), Dense(tokens * width)],
            name="decoder",
        )

    def build(self, _: object) -> None:
        # A cold user needs only one half of each autoencoder; both halves get their weights here.
        self.encoder.build((None, self.tokens * self.width))
        self.decoder.build((None, self.latent))

    def encode(self, tokens: FloatBND, mask: BoolBN | None = None) -> FloatBZ:
        """Returns the codes p [B, Z].

        Args:
            tokens: float [B, N, D]. The newest `self.tokens` are read, and fewer are padded on
                the left.
            mask: bool [B, N]; tokens where it is False count as zeros.
        """
        if mask is not None:
            tokens = tokens * ops.cast(mask[:, :, None], tokens.dtype)
        tokens = newest_positions(tokens, self.tokens)
        missing = self.tokens - ops.shape(tokens)[1]
        tokens = ops.pad(tokens, [[0, 0], [missing, 0], [0, 0]])
        return self.encoder(ops.reshape(tokens, (-1, self.tokens * self.width)))

    def decode(self, p: FloatBZ) -> FloatBND:
        """Returns the tokens [B, N, D] of the codes p [B, Z]."""
        return ops.reshape(self.decoder(p), (-1, self.tokens, self.width))

    def call(self, tokens: FloatBND, mask: BoolBN | None = None) -> FloatBND:
        """Returns the reconstruction of tokens [B, N, D], all N = `self.tokens` of them."""
        return self.decode(self.encode(tokens, mask))

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "tokens": self.tokens,
            "width": self.width,
            "latent": self.latent,
        }

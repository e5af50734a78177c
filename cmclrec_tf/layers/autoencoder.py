"""The autoencoders of Eq. (8)."""

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense


@keras.saving.register_keras_serializable("cmclrec_tf")
class Autoencoder(keras.layers.Layer):
    """Eq. (8): p = E(T), T^ = D(p), for tokens T [B, tokens, D] and a code p [B, Z].

    Args:
        tokens: how many tokens (M for features, L for histories). width: D. latent: Z.
    """

    def __init__(self, tokens, width, latent, **kwargs):
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

    def build(self, _) -> None:
        # Only one half of each autoencoder serves a cold user; both exist from the start.
        self.encoder.build((None, self.tokens * self.width))
        self.decoder.build((None, self.latent))

    def encode(self, tokens, mask=None):
        """tokens [B, n, D], mask bool [B, n] -> p [B, Z]; padded tokens count as zeros.

        Fewer tokens than the layer was made for are padded on the left.
        """
        if mask is not None:
            tokens = tokens * ops.cast(mask[:, :, None], tokens.dtype)
        missing = self.tokens - ops.shape(tokens)[1]
        tokens = ops.pad(tokens, [[0, 0], [missing, 0], [0, 0]])
        return self.encoder(ops.reshape(tokens, (-1, self.tokens * self.width)))

    def decode(self, p):
        """p [B, Z] -> tokens [B, n, D]."""
        return ops.reshape(self.decoder(p), (-1, self.tokens, self.width))

    def call(self, tokens, mask=None):
        """tokens [B, n, D] -> their reconstruction [B, n, D]."""
        return self.decode(self.encode(tokens, mask))

    def get_config(self):
        own = {"tokens": self.tokens, "width": self.width, "latent": self.latent}
        return {**super().get_config(), **own}

"""The mapper with parts taken away: section 4.4 of the paper, by the config word `model.mapper`.

A part that is missing is replaced by the least that still joins what stands on either side of it.
"""

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.models.cross_modal import CrossModalMapper, embed
from cmclrec_tf.schema import PAD


@keras.saving.register_keras_serializable("cmclrec_tf")
class NoAugmentation(CrossModalMapper):
    """NoDA: raw embeddings of features and items go to the cross-modal module; no Eqs. (1)-(4)."""

    objectives = ("cross_modal",)

    def _add_augmentation(self, config, causal):
        """Nothing encodes."""

    def encode_features(self, features, masked=None):
        """features, masked bool [B, M] -> their tokens [B, M, D]."""
        return self.tokens(features, masked)

    def encode_history(self, history, masked=None, training=None):
        """history ids [B, L], masked bool [B, L] -> item embeddings [B, L, D], 0 where masked."""
        shown = history != PAD if masked is None else (history != PAD) & ~masked
        x = self.items(history)
        return x * ops.cast(shown[:, :, None], x.dtype)


@keras.saving.register_keras_serializable("cmclrec_tf")
class NoCrossModal(CrossModalMapper):
    """NoCL: a linear map from encoded features to histories, held against encoded histories."""

    objectives = ("contrast", "translation")

    def _add_cross_modal(self, config, causal):
        """T_s' = W [all of T_f] + b, instead of Eqs. (5)-(8)."""
        self.linear = Dense(self.length * config.width, name="linear")
        self.linear.build((None, len(self.schema.features) * config.width))

    @property
    def feature_layers(self):
        """As in `CrossModalMapper`."""
        return self.tokens, self.linear

    def feature_side(self, features, masked=None):
        """features -> h_f [B, M, D], which is T_f here."""
        return self.encode_features(features, masked)

    def attend(self, h_s, mask):
        """h_s [B, L, D] as it is."""
        return h_s

    def simulate(self, t_f):
        """T_f [B, M, D] -> T_s' [B, L, D]."""
        fields, width = len(self.schema.features), self.config.width
        flat = self.linear(ops.reshape(t_f, (-1, fields * width)))
        return ops.reshape(flat, (-1, self.length, width))


@keras.saving.register_keras_serializable("cmclrec_tf")
class LinearMapper(NoAugmentation, NoCrossModal):
    """None: a linear map from raw tokens to raw item embeddings; neither module."""

    objectives = ("translation",)

    def history_side(self, history, hidden=None, vector=None, training=None):
        """history ids [B, L] -> item embeddings [B, L, D], `vector` where hidden."""
        x = embed(self.items, history, hidden, vector)
        return x * ops.cast(history[:, :, None] != PAD, x.dtype)


MAPPERS = {
    "full": CrossModalMapper,
    "NoDA": NoAugmentation,
    "NoCL": NoCrossModal,
    "None": LinearMapper,
}


def create(schema, config, length):
    """The mapper that `config.mapper` names, for histories of `length` items; `ModelConfig`."""
    return MAPPERS[config.mapper](schema, config, length, name="mapper")

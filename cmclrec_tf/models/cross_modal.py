"""The mapper: from user features to histories, Eqs. (1)-(8) wired together."""

import dataclasses

import keras
from keras import ops

from cmclrec_tf.config import Config, ModelConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.autoencoder import Autoencoder
from cmclrec_tf.layers.feature_encoder import FeatureEncoder, FeatureTokens
from cmclrec_tf.layers.self_attention import SelfAttention
from cmclrec_tf.layers.sequence_encoder import SequenceEncoder
from cmclrec_tf.models.staged import policy_of, saved_policy
from cmclrec_tf.schema import PAD, Schema


def item_embedding(schema, width):
    """A new table of item embeddings, as a layer: ids [...] -> [..., D]."""
    normal = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Embedding(schema.items, width, normal, name="items")


def embed(items, history, hidden=None, vector=None):
    """Raw item embeddings of history ids [B, L], `vector` [D] where they are hidden: [B, L, D]."""
    x = items(history)
    return x if hidden is None else ops.where(hidden[:, :, None], ops.cast(vector, x.dtype), x)


@keras.saving.register_keras_serializable("cmclrec_tf")
class CrossModalMapper(keras.Model):
    """Learns T_s (history side), T_f (feature side) and the way T_s' = D_s(E_f(T_f)) between them.

    `objectives` names the parts of the stage 1 loss that train it, see `pretrain.pretrain_losses`.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `ModelConfig`.
        length: L, the number of history positions.
    """

    objectives = ("contrast", "cross_modal")

    def __init__(self, schema, config, length, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.schema, self.config, self.length = schema, config, length
        self.items = item_embedding(schema, config.width)
        self.tokens = FeatureTokens(schema.features, config.width, name="tokens")
        self._add_augmentation(config, causal=config.positions == "every")
        self._add_cross_modal(config, causal=config.positions == "every")

    def _add_augmentation(self, config, causal):
        """The encoders Psi that Eqs. (1)-(4) train."""
        self.psi_f = FeatureEncoder(len(self.schema.features), config.width, name="psi_f")
        self.psi_s = SequenceEncoder(
            self.length,
            config.width,
            config.encoder_blocks,
            config.heads,
            config.dropout,
            causal,
            name="psi_s",
        )

    def _add_cross_modal(self, config, causal):
        """The attentions and autoencoders of Eqs. (5)-(8)."""
        width, fields = config.width, len(self.schema.features)
        self.attention_f = SelfAttention(width, name="attention_f")
        self.attention_s = SelfAttention(width, causal, name="attention_s")
        self.auto_f = Autoencoder(fields, width, config.latent, name="auto_f")
        self.auto_s = Autoencoder(self.length, width, config.latent, name="auto_s")
        # Their halves are called one by one, which builds nothing.
        self.auto_f.build((None, fields, width))
        self.auto_s.build((None, self.length, width))

    @property
    def feature_layers(self):
        """The layers that read a user's features first, which overfit first."""
        return self.tokens, self.auto_f.encoder

    def encode_features(self, features, masked=None):
        """features, masked bool [B, M] -> h_f [B, M, D], Eq. (2)."""
        return self.psi_f(self.tokens(features, masked))

    def encode_history(self, history, masked=None, training=None):
        """history ids [B, L], masked bool [B, L] -> h_s [B, L, D], Eq. (2)."""
        return self.psi_s(self.items(history), history != PAD, masked, training=training)

    def feature_side(self, features, masked=None):
        """features -> T_f [B, M, D], Eqs. (5)-(7)."""
        return self.attention_f(self.encode_features(features, masked))

    def history_side(self, history, hidden=None, vector=None, training=None):
        """history ids [B, L] -> T_s [B, L, D], Eqs. (5)-(7).

        On the `residual` path the raw item embeddings are added, so that the backbone sees them
        as it would without the mapper.

        Args:
            hidden: bool [B, L], items that must not show; None: all do.
            vector: [D], what stands for them on the residual path.
        """
        mask = history != PAD
        t_s = self.attend(self.encode_history(history, hidden, training=training), mask)
        if self.config.history_path == "residual":
            t_s = t_s + embed(self.items, history, hidden, vector) * ops.cast(
                mask[:, :, None], t_s.dtype
            )
        return t_s

    def attend(self, h_s, mask):
        """h_s [B, L, D] -> what the mapper makes of it [B, L, D], Eqs. (5)-(7)."""
        return self.attention_s(h_s, mask)

    def simulate(self, t_f):
        """T_f [B, M, D] -> the simulated history T_s' = D_s(E_f(T_f)) [B, L, D]."""
        return self.auto_s.decode(self.auto_f.encode(t_f))

    def call(self, batch, training=None):
        """batch -> (T_s [B, n, D], T_f [B, M, D], T_s' [B, L, D]), from histories of n <= L."""
        length = batch["history"].shape[1]
        if length is not None and length > self.length:
            raise InputError(
                f"histories of length {length}",
                f"the model was built for data.max_history={self.length}",
                "Read the dataset with that max_history, or build the model for this one.",
            )
        t_s = self.history_side(batch["history"], training=training)
        t_f = self.feature_side(batch["features"])
        return t_s, t_f, self.simulate(t_f)

    def get_config(self):
        return {
            "schema": self.schema.to_dict(),
            "config": dataclasses.asdict(self.config),
            "length": self.length,
            **saved_policy(self),
        }

    @classmethod
    def from_config(cls, config):
        with policy_of(config):
            schema, model = Schema.from_dict(config["schema"]), ModelConfig(**config["config"])
            return cls(schema, model, config["length"], name=config["name"])

    @classmethod
    def from_preset(cls, name, schema):
        """The mapper of a preset, untrained; see `StagedModel.from_preset`."""
        config = Config.preset(name)
        return cls(schema, config.model, config.data.max_history)

"""The mapper from user features to histories: Eqs. (1)-(8) as one Keras model."""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from cmclrec_tf.config import Config, ModelConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.autoencoder import Autoencoder
from cmclrec_tf.layers.feature_encoder import FeatureEncoder, FeatureTokens
from cmclrec_tf.layers.self_attention import SelfAttention
from cmclrec_tf.layers.sequence_encoder import SequenceEncoder
from cmclrec_tf.models.staged import name_and_policy, saved_policy
from cmclrec_tf.schema import PAD, Schema
from cmclrec_tf.types import (
    BoolBL,
    BoolBM,
    Features,
    FloatBLD,
    FloatBMD,
    FloatBSD,
    IdsBL,
    KerasConfig,
    Tensor,
    Users,
)


def item_embedding(schema: Schema, width: int) -> keras.layers.Embedding:
    """Returns a new embedding layer for items: ids [...] -> [..., D].

    Args:
        schema: `Schema` with the number of items.
        width: D.

    Example:
        >>> import cmclrec_tf as cm
        >>> item_embedding(cm.Schema((cm.Feature("city"),), items=6), width=8).output_dim
        8
    """
    normal = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Embedding(schema.items, width, normal, name="items")


def embed_history(
    items: keras.layers.Embedding,
    history: IdsBL,
    hidden: BoolBL | None = None,
    vector: Tensor | None = None,
) -> FloatBLD:
    """Returns the item embeddings of histories, with a vector in the place of hidden items.

    Args:
        items: the embedding layer.
        history: int [B, L].
        hidden: bool [B, L], True where an item is hidden; None hides none.
        vector: float [D].

    Returns:
        float [B, L, D].

    Example:
        >>> import cmclrec_tf as cm
        >>> items = item_embedding(cm.Schema((cm.Feature("city"),), items=6), width=1)
        >>> history, hidden = ops.array([[4, 5]]), ops.array([[False, True]])
        >>> float(embed_history(items, history, hidden, vector=ops.array([7.0]))[0, 1, 0])
        7.0
    """
    x = items(history)
    return x if hidden is None else ops.where(hidden[:, :, None], ops.cast(vector, x.dtype), x)


@keras.saving.register_keras_serializable("cmclrec_tf")
class CrossModalMapper(keras.Model):
    """Maps user features to a simulated history, T_s' = D_s(E_f(T_f)).

    The history side turns item ids into T_s [B, L, D]: item embeddings, the encoder Psi_s (Eq. 2)
    and self-attention (Eqs. 5-7). The feature side turns user features into T_f [B, M, D]: one
    token per field, the encoder Psi_f and self-attention. An autoencoder for each side (Eq. 8)
    compresses its tokens into a code: that of the histories the newest S = `model.simulated`
    positions of T_s, as many as a simulated history has. The code of T_f, decoded by the
    autoencoder of the histories, is the simulated history.

    The mapper has no loss: `Pretrain` trains it in stage 1, `CMCLRec` uses it in stage 2. Its input
    is a batch of `PreparedDataset.batches`, of which it reads `history` and `features`; its output
    is the tuple (T_s, T_f, T_s').

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `ModelConfig`.
        length: L, the number of positions of a history.

    Attributes:
        objectives: the parts of the stage 1 loss that train it, see `pretrain.pretrain_losses`.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> mapper = cm.CrossModalMapper(schema, cm.Config.preset("tiny").model, length=3)
        >>> batch = {"history": ops.array([[0, 4, 5]]), "features": {"city": ops.array([[2]])}}
        >>> t_s, t_f, simulated = mapper(batch)
        >>> ops.shape(t_s), ops.shape(t_f), ops.shape(simulated)  # L = 3, M = 1, D = 16
        ((1, 3, 16), (1, 1, 16), (1, 3, 16))
    """

    objectives: ClassVar[tuple[str, ...]] = ("contrast", "cross_modal")

    def __init__(self, schema: Schema, config: ModelConfig, length: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.schema, self.config, self.length = schema, config, length
        self.count = config.simulated_positions(length)  # S
        self.items = item_embedding(schema, config.width)
        self.tokens = FeatureTokens(schema.features, config.width, name="tokens")
        self._add_augmentation(config, causal=config.positions == "every")
        self._add_cross_modal(config, causal=config.positions == "every")

    def _add_augmentation(self, config: ModelConfig, causal: bool) -> None:
        """Adds the encoders Psi_f and Psi_s, which Eqs. (1)-(4) train."""
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

    def _add_cross_modal(self, config: ModelConfig, causal: bool) -> None:
        """Adds the attentions and autoencoders of Eqs. (5)-(8)."""
        width, fields = config.width, len(self.schema.features)
        self.attention_f = SelfAttention(width, name="attention_f")
        self.attention_s = SelfAttention(width, causal, name="attention_s")
        self.auto_f = Autoencoder(fields, width, config.latent, name="auto_f")
        self.auto_s = Autoencoder(self.count, width, config.latent, name="auto_s")
        # `encode` and `decode` are called one by one, and neither builds the layer.
        self.auto_f.build((None, fields, width))
        self.auto_s.build((None, self.count, width))

    @property
    def feature_layers(self) -> tuple[keras.layers.Layer, ...]:
        """The first layers that read user features; they overfit before the others do."""
        return self.tokens, self.auto_f.encoder

    def encode_features(self, features: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Eq. (2): returns h_f [B, M, D]; `masked` bool [B, M] hides fields."""
        return self.psi_f(self.tokens(features, masked))

    def encode_history(
        self, history: IdsBL, masked: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Eq. (2): returns h_s [B, L, D]; `masked` bool [B, L] hides items."""
        return self.psi_s(self.items(history), history != PAD, masked, training=training)

    def feature_side(self, features: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Eqs. (5)-(7): returns T_f [B, M, D]; `masked` bool [B, M] hides fields."""
        return self.attention_f(self.encode_features(features, masked))

    def history_side(
        self,
        history: IdsBL,
        hidden: BoolBL | None = None,
        vector: Tensor | None = None,
        training: bool | None = None,
    ) -> FloatBLD:
        """Eqs. (5)-(7): returns T_s [B, L, D].

        With `history_path: residual` the item embeddings are added, so that the backbone sees them
        as it would without the mapper.

        Args:
            history: int [B, L].
            hidden: bool [B, L], True where an item is hidden; None hides none.
            vector: float [D], replaces the embeddings of hidden items in that sum.
            training: as in Keras.
        """
        mask = history != PAD
        t_s = self.attend(self.encode_history(history, hidden, training=training), mask)
        if self.config.history_path == "residual":
            x = embed_history(self.items, history, hidden, vector)
            t_s = t_s + x * ops.cast(mask[:, :, None], t_s.dtype)
        return t_s

    def attend(self, h_s: FloatBLD, mask: BoolBL) -> FloatBLD:
        """Eqs. (5)-(7): self-attention over h_s [B, L, D]."""
        return self.attention_s(h_s, mask)

    def simulate(self, t_f: FloatBMD) -> FloatBSD:
        """Returns T_s' = D_s(E_f(T_f)) [B, S, D], oldest first, of T_f [B, M, D]."""
        return self.auto_s.decode(self.auto_f.encode(t_f))

    def call(
        self, batch: Users, training: bool | None = None
    ) -> tuple[FloatBLD, FloatBMD, FloatBSD]:
        """Returns T_s [B, N, D] of histories of N <= L positions, T_f [B, M, D], T_s' [B, S, D].

        Raises:
            InputError: the histories are longer than L.
        """
        length = batch["history"].shape[1]
        if length is not None and length > self.length:
            raise InputError(
                f"histories of length {length}",
                f"the model was built for data.max_history={self.length}",
                "Read the dataset by `cm.load(folder, max_history=...)`, or build the model for "
                "this length.",
            )
        t_s = self.history_side(batch["history"], training=training)
        t_f = self.feature_side(batch["features"])
        return t_s, t_f, self.simulate(t_f)

    def get_config(self) -> KerasConfig:
        return {
            "schema": self.schema.to_dict(),
            "config": dataclasses.asdict(self.config),
            "length": self.length,
            **name_and_policy(self),
        }

    @classmethod
    def from_config(cls, config: KerasConfig) -> "CrossModalMapper":
        with saved_policy(config):
            schema, model = Schema.from_dict(config["schema"]), ModelConfig(**config["config"])
            return cls(schema, model, config["length"], name=config["name"])

    @classmethod
    def from_preset(cls, name: str, schema: Schema) -> "CrossModalMapper":
        """Returns the untrained mapper of a preset; see `StagedModel.from_preset`."""
        config = Config.preset(name)
        return cls(schema, config.model, config.data.max_history)

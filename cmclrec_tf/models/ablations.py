"""Variants of the mapper without some of its parts (section 4.4), by the setting `model.mapper`.

A part that is left out is replaced by the simplest connection between its neighbours.
"""

from typing import ClassVar

import keras
from keras import ops

from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.models.cross_modal import CrossModalMapper, embed_history
from cmclrec_tf.schema import PAD, Schema
from cmclrec_tf.types import BoolBL, BoolBM, Features, FloatBLD, FloatBMD, FloatBSD, IdsBL, Tensor


@keras.saving.register_keras_serializable("cmclrec_tf")
class NoAugmentation(CrossModalMapper):
    """NoDA: no data augmentation and no encoders, so no Eqs. (1)-(4).

    The cross-modal module reads the embeddings of features and items directly.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> mapper = NoAugmentation(schema, cm.Config.preset("tiny").model, length=3)
        >>> hasattr(mapper, "psi_s"), hasattr(mapper, "auto_s")
        (False, True)
    """

    objectives: ClassVar[tuple[str, ...]] = ("cross_modal",)

    def _add_augmentation(self, config: ModelConfig, causal: bool) -> None:
        """Adds no encoders."""

    def encode_features(self, features: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Returns the tokens of the features [B, M, D]."""
        return self.tokens(features, masked)

    def encode_history(
        self, history: IdsBL, masked: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Returns the item embeddings [B, L, D], 0 at padding and where `masked` is True."""
        visible = history != PAD if masked is None else (history != PAD) & ~masked
        x = self.items(history)
        return x * ops.cast(visible[:, :, None], x.dtype)


@keras.saving.register_keras_serializable("cmclrec_tf")
class NoCrossModal(CrossModalMapper):
    """NoCL: no cross-modal module. A linear map from encoded features gives T_s', not Eqs. (5)-(8).

    The linear map is trained to reproduce the encoded history.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> mapper = NoCrossModal(schema, cm.Config.preset("tiny").model, length=3)
        >>> hasattr(mapper, "psi_s"), hasattr(mapper, "auto_s")
        (True, False)
    """

    objectives: ClassVar[tuple[str, ...]] = ("contrast", "translation")

    def _add_cross_modal(self, config: ModelConfig, causal: bool) -> None:
        """Adds T_s' = W vec(T_f) + b, in the place of Eqs. (5)-(8)."""
        self.linear = Dense(self.count * config.width, name="linear")
        self.linear.build((None, len(self.schema.features) * config.width))

    @property
    def feature_layers(self) -> tuple[keras.layers.Layer, ...]:
        """The first layers that read user features, as in `CrossModalMapper`."""
        return self.tokens, self.linear

    def feature_side(self, features: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Returns h_f [B, M, D], which is T_f here."""
        return self.encode_features(features, masked)

    def attend(self, h_s: FloatBLD, mask: BoolBL) -> FloatBLD:
        """Returns h_s [B, L, D] unchanged."""
        return h_s

    def simulate(self, t_f: FloatBMD) -> FloatBSD:
        """Returns the simulated history T_s' [B, S, D] of T_f [B, M, D]."""
        fields, width = len(self.schema.features), self.config.width
        flat = self.linear(ops.reshape(t_f, (-1, fields * width)))
        return ops.reshape(flat, (-1, self.count, width))


@keras.saving.register_keras_serializable("cmclrec_tf")
class LinearMapper(NoAugmentation, NoCrossModal):
    """None: neither module. A linear map from feature tokens reproduces the item embeddings.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> mapper = LinearMapper(schema, cm.Config.preset("tiny").model, length=3)
        >>> [layer.name for layer in mapper.layers]
        ['items', 'tokens', 'linear']
    """

    objectives: ClassVar[tuple[str, ...]] = ("translation",)

    def history_side(
        self,
        history: IdsBL,
        hidden: BoolBL | None = None,
        vector: Tensor | None = None,
        training: bool | None = None,
    ) -> FloatBLD:
        """Returns the item embeddings [B, L, D], with `vector` in the place of hidden items."""
        x = embed_history(self.items, history, hidden, vector)
        return x * ops.cast(history[:, :, None] != PAD, x.dtype)


MAPPERS = {
    "full": CrossModalMapper,
    "NoDA": NoAugmentation,
    "NoCL": NoCrossModal,
    "None": LinearMapper,
}


def create(schema: Schema, config: ModelConfig, length: int) -> CrossModalMapper:
    """Returns a new mapper of the kind that `config.mapper` names.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `ModelConfig`.
        length: L, the number of positions of a history.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> type(create(schema, cm.Config.preset("tiny").model, length=3)).__name__
        'CrossModalMapper'
    """
    return MAPPERS[config.mapper](schema, config, length, name="mapper")

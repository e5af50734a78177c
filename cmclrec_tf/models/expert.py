"""An expert in user features: scores by features alone, with item vectors of its own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.schema import Feature
from cmclrec_tf.types import BoolBM, Features, FloatBD, KerasConfig, Tensor

# Width of a feature's token, and the dropout rate of the hidden layer.
_TOKEN_WIDTH, _DROPOUT = 32, 0.3


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureExpert(keras.layers.Layer):
    """A second opinion on cold users: an MLP from user features to scores.

    z_u = gelu(W [tokens of all features] + b),  score(u, i) = <z_u, w_i>

    It shares no weight with the cold path, so that the errors of the two differ, and the sum of
    both scores, which is a product of experts, may rank better. `PopularityPrior` weighs it.

    Args:
        features: the `schema.Feature`s, with vocabulary sizes and numeric statistics.
        items: V.
        width: H, the width of z_u and w_i.
        seed: seeds dropout.

    Example:
        >>> expert = FeatureExpert([Feature("team", size=4)], items=6, width=3)
        >>> z = expert({"team": ops.array([[2], [3]])})
        >>> ops.shape(z), ops.shape(expert.scores(z))
        ((2, 3), (2, 6))
    """

    def __init__(
        self,
        features: Sequence[Feature | KerasConfig],
        items: int,
        width: int,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.items, self.width, self.seed = items, width, seed
        self.tokens = FeatureTokens(features, _TOKEN_WIDTH, name="tokens")
        self.inner = Dense(width, activation="gelu", name="inner")
        self.drop = keras.layers.Dropout(_DROPOUT, seed=seed)
        self.vectors = self.add_weight(
            shape=(items, width), initializer="glorot_uniform", autocast=False, name="vectors"
        )

    def call(
        self, features: Features, masked: BoolBM | None = None, training: bool | None = None
    ) -> FloatBD:
        """Returns z_u, float32 [B, H].

        Args:
            features: user features, as `FeatureTokens` reads them.
            masked: bool [B, M], fields to hide.
            training: as in Keras.
        """
        tokens = self.tokens(features, masked)
        flat = ops.reshape(tokens, (-1, len(self.tokens.features) * _TOKEN_WIDTH))
        return ops.cast(self.drop(self.inner(flat), training=training), "float32")

    def scores(self, z: Tensor) -> Tensor:
        """Returns the scores float32 [..., V] of z [..., H]."""
        return ops.matmul(z, ops.transpose(ops.convert_to_tensor(self.vectors)))

    def get_config(self) -> KerasConfig:
        features = [vars(feature) for feature in self.tokens.features]
        sizes = {"items": self.items, "width": self.width, "seed": self.seed}
        return {**super().get_config(), "features": features, **sizes}

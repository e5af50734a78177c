"""Turns user features into tokens, and encodes them by Psi_f of Eq. (2)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cmclrec_tf.data import numeric
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.schema import FIRST_ID, MULTI, Feature
from cmclrec_tf.types import BoolB, BoolBM, Features, FloatBD, FloatBMD, KerasConfig, Tensor

# In standard deviations: a number farther from the mean, such as a typing error, is clipped.
MAX_DEVIATION = 10.0


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureTokens(keras.layers.Layer):
    """Embeds each user feature as one token: [B, M, D].

    - A category is looked up in an embedding; of several categories the mean is taken.
    - A number, or a vector of numbers, is transformed as its feature says (`data.numeric`),
      standardised by the mean and scale of the train split, and goes through a small MLP. With
      `bins`, the range that holds the number is looked up in an embedding.
    - A masked field becomes a learned vector of that field. So do missing values, numbers that
      are not finite and categories that the train split does not contain: only that vector is
      trained to mean "not known".

    Args:
        features: the `schema.Feature`s, with vocabulary sizes and numeric statistics.
        width: D.

    Example:
        >>> import numpy as np
        >>> from cmclrec_tf.schema import NUMERIC, Feature
        >>> age, team = Feature("age", NUMERIC, mean=40.0, scale=10.0), Feature("team", size=4)
        >>> tokens = FeatureTokens([age, team], width=8)
        >>> tokens({"age": np.array([[30.0]]), "team": np.array([[3]])}).shape.as_list()
        [1, 2, 8]
    """

    def __init__(self, features: Sequence[Feature | KerasConfig], width: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.features = tuple(Feature(**f) if isinstance(f, dict) else f for f in features)
        self.width = width
        self.value_layers = [self._value_layer(feature) for feature in self.features]

    def _value_layer(self, feature: Feature) -> keras.layers.Layer:
        size = feature.bins + FIRST_ID if feature.bins else feature.size
        if size or not feature.is_numeric:
            return keras.layers.Embedding(size, self.width, name=f"{feature.name}_values")
        return keras.Sequential(
            [Dense(self.width, activation="gelu"), Dense(self.width)],
            name=f"{feature.name}_values",
        )

    def build(self, _: object) -> None:
        for feature, layer in zip(self.features, self.value_layers, strict=True):
            layer.build((None, feature.numbers))
        self.mask_vectors = self.add_weight(
            shape=(len(self.features), self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vectors",
        )

    def call(self, values: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Returns the tokens [B, M, D].

        Args:
            values: {name: int ids [B, N] or floats [B, N]}.
            masked: bool [B, M], fields to hide.
        """
        tokens, known = zip(
            *(
                self._token(feature, layer, values[feature.name])
                for feature, layer in zip(self.features, self.value_layers, strict=True)
            ),
            strict=True,
        )
        tokens, known = ops.stack(tokens, axis=1), ops.stack(known, axis=1)  # [B, M, D], [B, M]
        visible = known if masked is None else ops.logical_and(known, ops.logical_not(masked))
        vectors = ops.cast(self.mask_vectors, tokens.dtype)[None]
        return ops.where(visible[:, :, None], tokens, vectors)

    def _token(
        self, feature: Feature, layer: keras.layers.Layer, value: Tensor
    ) -> tuple[FloatBD, BoolB]:
        """Returns the token of one field, and for which rows its value is known."""
        if feature.is_numeric:
            known = ops.all(ops.isfinite(value), axis=1)  # value [B, N]
            value = ops.where(known[:, None], value, 0.0)
            if feature.bins:
                return layer(numeric.bin_ids(feature, value[:, 0])), known
            value = (numeric.transformed(feature, value) - feature.mean) / feature.scale
            return layer(ops.clip(value, -MAX_DEVIATION, MAX_DEVIATION)), known
        known = value >= FIRST_ID  # [B, N]
        if feature.kind == MULTI:
            weight = ops.cast(known, self.compute_dtype)[:, :, None]
            total = ops.sum(layer(value) * weight, axis=1)
            return total / ops.maximum(ops.sum(weight, axis=1), 1), ops.any(known, axis=1)
        return layer(value[:, 0]), known[:, 0]

    def get_config(self) -> KerasConfig:
        features = [vars(feature) for feature in self.features]
        return {**super().get_config(), "features": features, "width": self.width}


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureEncoder(keras.layers.Layer):
    """Eq. (2), Psi_f: h_f = F + MLP(norm(F)), over the tokens F of all fields together.

    The MLP sees every field at once, so it can infer a masked field from the others.

    Args:
        fields: M.
        width: D.

    Example:
        >>> from keras import ops
        >>> ops.shape(FeatureEncoder(fields=5, width=8)(ops.ones((3, 5, 8))))
        (3, 5, 8)
    """

    def __init__(self, fields: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields, self.width = fields, width
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.inner = Dense(4 * width, activation="gelu")
        self.outer = Dense(fields * width)

    def call(self, tokens: FloatBMD) -> FloatBMD:
        """Returns h_f [B, M, D] for tokens [B, M, D]."""
        flat = ops.reshape(self.norm(tokens), (-1, self.fields * self.width))
        mixed = self.outer(self.inner(flat))
        return tokens + ops.reshape(mixed, (-1, self.fields, self.width))

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "fields": self.fields, "width": self.width}

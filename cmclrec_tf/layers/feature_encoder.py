"""User features to tokens, and Psi_f of Eq. (2) on them."""

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.schema import FIRST_ID, MULTI, Feature

# Standard deviations; what lies farther off, by a typing error say, counts as this far.
FARTHEST = 10.0


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureTokens(keras.layers.Layer):
    """One token per user feature: [B, M, D].

    A categorical value is looked up, several values are averaged, a number or a vector of numbers
    is standardised by the train split's mean and scale and goes through a small MLP. A masked field
    is replaced by a learned vector of that field. So are a missing value, numbers of which one is
    not finite and a value that the train split never had: that vector is the only one trained to
    stand for "not known".

    Args:
        features: the `schema.Feature`s, vocabulary sizes and numeric statistics filled in.
        width: D.
    """

    def __init__(self, features, width, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.features = tuple(Feature(**f) if isinstance(f, dict) else f for f in features)
        self.width = width
        self.value_layers = [self._value_layer(feature) for feature in self.features]

    def _value_layer(self, feature):
        if not feature.is_numeric:
            return keras.layers.Embedding(feature.size, self.width, name=f"{feature.name}_values")
        return keras.Sequential(
            [Dense(self.width, activation="gelu"), Dense(self.width)],
            name=f"{feature.name}_values",
        )

    def build(self, _) -> None:
        for feature, layer in zip(self.features, self.value_layers, strict=True):
            layer.build((None, feature.numbers))
        self.mask_vectors = self.add_weight(
            shape=(len(self.features), self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vectors",
        )

    def call(self, values, masked=None):
        """values {name: ids [B, W] or floats [B, n]}, masked bool [B, M] -> tokens [B, M, D]."""
        tokens, known = zip(
            *(
                self._token(feature, layer, values[feature.name])
                for feature, layer in zip(self.features, self.value_layers, strict=True)
            ),
            strict=True,
        )
        tokens, known = ops.stack(tokens, axis=1), ops.stack(known, axis=1)  # [B, M, D], [B, M]
        shown = known if masked is None else ops.logical_and(known, ops.logical_not(masked))
        return ops.where(shown[:, :, None], tokens, ops.cast(self.mask_vectors, tokens.dtype)[None])

    def _token(self, feature, layer, value):
        if feature.is_numeric:
            known = ops.all(ops.isfinite(value), axis=1)  # value [B, n]
            value = (ops.where(known[:, None], value, feature.mean) - feature.mean) / feature.scale
            return layer(ops.clip(value, -FARTHEST, FARTHEST)), known
        seen = value >= FIRST_ID  # [B, W]
        if feature.kind == MULTI:
            weight = ops.cast(seen, self.compute_dtype)[:, :, None]
            total = ops.sum(layer(value) * weight, axis=1)
            return total / ops.maximum(ops.sum(weight, axis=1), 1), ops.any(seen, axis=1)
        return layer(value[:, 0]), seen[:, 0]

    def get_config(self):
        features = [vars(feature) for feature in self.features]
        return {**super().get_config(), "features": features, "width": self.width}


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureEncoder(keras.layers.Layer):
    """Eq. (2), Psi_f: h_f = F + MLP(F) over all fields together.

    The MLP sees every field at once, so what is masked can be inferred from what is not.

    Args:
        fields: M. width: D.
    """

    def __init__(self, fields, width, **kwargs):
        super().__init__(**kwargs)
        self.fields, self.width = fields, width
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.inner = Dense(4 * width, activation="gelu")
        self.outer = Dense(fields * width)

    def call(self, tokens):
        """tokens [B, M, D] -> h_f [B, M, D]."""
        flat = ops.reshape(self.norm(tokens), (-1, self.fields * self.width))
        mixed = self.outer(self.inner(flat))
        return tokens + ops.reshape(mixed, (-1, self.fields, self.width))

    def get_config(self):
        return {**super().get_config(), "fields": self.fields, "width": self.width}

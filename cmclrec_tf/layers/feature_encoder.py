"""Turns user features into tokens, and encodes them by Psi_f of Eq. (2)."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from cmclrec_tf.data import numeric
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.schema import FIRST_ID, MULTI, Feature
from cmclrec_tf.types import (
    BoolBM,
    BoolBN,
    Features,
    FloatBMD,
    FloatBND,
    IdsBN,
    KerasConfig,
    Tensor,
)

# In standard deviations: a number farther from the mean, such as a typing error, is clipped.
MAX_DEVIATION = 10.0


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureTokens(keras.layers.Layer):
    """Embeds each user feature as one token: [B, M, D].

    - A category is looked up in a table that all features share, each with rows of its own; of
      several categories the mean is taken.
    - A number, or a vector of numbers, is transformed as its feature says (`data.numeric`),
      standardised by the mean and scale of the train split, and goes through a small MLP. With
      `bins`, the range that holds the number is looked up in the table.
    - A masked field becomes a learned vector of that field. So do missing values, numbers that
      are not finite and categories that the train split does not contain: only that vector is
      trained to mean "not known".

    Args:
        features: the `schema.Feature`s, with vocabulary sizes and numeric statistics.
        width: D.

    Attributes:
        table: the embedding layer of all categories; None if every feature is a number.
        rows: the rows of `table` that belong to each feature, {name: slice}.

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
        self.rows = table_rows(self.features)
        size = max((rows.stop for rows in self.rows.values()), default=0)
        self.table: Any = None
        if size:
            self.table = keras.layers.Embedding(size, width, name="table")
        self.number_layers = {
            feature.name: keras.Sequential(
                [Dense(width, activation="gelu"), Dense(width)], name=f"{feature.name}_values"
            )
            for feature in self.features
            if feature.name not in self.rows
        }
        # One look-up for all features with one id; the others come behind them, one by one.
        self._joint = [f for f in self.features if f.name in self.rows and f.kind != MULTI]
        self._single = [f for f in self.features if f.name not in self.rows or f.kind == MULTI]
        names = [feature.name for feature in (*self._joint, *self._single)]
        self._order = [names.index(feature.name) for feature in self.features]
        starts = [self.rows[feature.name].start for feature in self._joint]
        self._starts = np.array(starts, "int32")

    def build(self, _: object) -> None:
        if self.table is not None:
            self.table.build(None)
        for feature in self.features:
            if feature.name in self.number_layers:
                self.number_layers[feature.name].build((None, feature.numbers))
        self.mask_vectors = self.add_weight(
            shape=(len(self.features), self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vectors",
        )

    def call(self, values: Features, masked: BoolBM | None = None) -> FloatBMD:
        """Returns the tokens [B, M, D].

        Args:
            values: {name: int ids [B, N] or floats [B, N]}; N = 1 for a category.
            masked: bool [B, M], fields to hide.
        """
        parts = [self._token(feature, values[feature.name]) for feature in self._single]
        if self._joint:
            parts.insert(0, self._joint_tokens(values))
        tokens = ops.concatenate([tokens for tokens, _ in parts], axis=1)  # [B, M, D]
        known = ops.concatenate([known for _, known in parts], axis=1)  # [B, M]
        if self._order != sorted(self._order):
            tokens, known = (ops.take(x, self._order, axis=1) for x in (tokens, known))
        visible = known if masked is None else ops.logical_and(known, ops.logical_not(masked))
        vectors = ops.cast(self.mask_vectors, tokens.dtype)[None]
        return ops.where(visible[:, :, None], tokens, vectors)

    def _joint_tokens(self, values: Features) -> tuple[FloatBND, BoolBN]:
        """Returns the tokens [B, N, D] of all fields with one id, and which values are known."""
        ids = [self._ids(feature, values[feature.name]) for feature in self._joint]
        ids = ops.concatenate(ids, axis=1)
        return self.table(ids + self._starts), ids >= FIRST_ID

    def _ids(self, feature: Feature, value: Tensor) -> IdsBN:
        """Returns the ids [B, 1] of a field, from ids or, with `bins`, from numbers."""
        return numeric.bin_ids(feature, value) if feature.bins else ops.cast(value, "int32")

    def _token(self, feature: Feature, value: Tensor) -> tuple[FloatBND, BoolBN]:
        """Returns the token [B, 1, D] of one field, and for which rows [B, 1] it is known."""
        if feature.kind == MULTI:
            known = value >= FIRST_ID  # [B, N]
            weight = ops.cast(known, self.compute_dtype)[:, :, None]
            first = self.rows[feature.name].start
            total = ops.sum(self.table(value + first) * weight, axis=1, keepdims=True)
            mean = total / ops.maximum(ops.sum(weight, axis=1, keepdims=True), 1)
            return mean, ops.any(known, axis=1, keepdims=True)
        known = ops.all(ops.isfinite(value), axis=1, keepdims=True)  # value [B, N]
        value = ops.where(known, value, 0.0)
        value = (numeric.transformed(feature, value) - feature.mean) / feature.scale
        token = self.number_layers[feature.name](ops.clip(value, -MAX_DEVIATION, MAX_DEVIATION))
        return token[:, None], known

    def get_config(self) -> KerasConfig:
        features = [vars(feature) for feature in self.features]
        return {**super().get_config(), "features": features, "width": self.width}


def table_rows(features: Iterable[Feature]) -> dict[str, slice]:
    """Returns the rows of each feature in a table of the vectors of all, {name: slice}.

    Args:
        features: the features; those that are numbers, without `bins`, have no rows.

    Example:
        >>> table_rows([Feature("age", size=4), Feature("team", size=3)])
        {'age': slice(0, 4, None), 'team': slice(4, 7, None)}
    """
    rows, start = {}, 0
    for feature in features:
        size = feature.bins + FIRST_ID if feature.bins else feature.size
        if size or not feature.is_numeric:
            rows[feature.name] = slice(start, start + size)
            start += size
    return rows


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

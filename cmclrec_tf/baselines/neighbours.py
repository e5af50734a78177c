"""Layer that finds the train users with the most similar features."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cmclrec_tf.baselines.base import events_of
from cmclrec_tf.data import numeric
from cmclrec_tf.schema import FIRST_ID, MULTI, PAD, TRAIN, Feature
from cmclrec_tf.types import Features, FloatBN, KerasConfig, KeysB, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

# Number of values of a multi-valued feature that are compared.
VALUES = 8


@keras.saving.register_keras_serializable("cmclrec_tf")
class Neighbours(keras.layers.Layer):
    """Finds the train users whose features are most similar, and returns their events.

    sim(u, t) is the sum over the features that are known for both users: 1 for an equal category,
    1 if a multi-valued feature has a value in common, exp(-|x_u - x_t| / scale) for a number.

    Args:
        features: the `schema.Feature`s, with numeric statistics.
        users: number of train users to store; if there are more, a random sample is stored.
        length: number of newest events to store for each.
        most: K, the number of neighbours to return.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> layer = Neighbours(data.schema.features, users=64, length=7, most=3)
        >>> layer.learn(data)
        >>> similarity, events = layer(next(iter(data.batches("test", 4)))["features"])
        >>> similarity.shape, events.shape
        (TensorShape([4, 3]), TensorShape([4, 3, 7]))
    """

    def __init__(
        self,
        features: Iterable[Feature | dict[str, Any]],
        users: int,
        length: int,
        most: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, autocast=False, **kwargs)
        self.features = tuple(Feature(**f) if isinstance(f, dict) else f for f in features)
        self.users, self.length, self.most = users, length, most
        self.keys = self._add_table("keys", (users,), "int64")
        self.events = self._add_table("events", (users, length), "int32")
        self.fields = {
            f.name: self._add_table(
                f"{f.name}_values",
                (users, VALUES if f.kind == MULTI else f.numbers),
                "float32" if f.is_numeric else "int32",
            )
            for f in self.features
        }
        self.built = True

    def learn(self, dataset: "PreparedDataset", seed: int = 0) -> None:
        """Stores train users of a dataset."""
        batches = list(dataset.batches(TRAIN, 1024, shuffle=False).as_numpy_iterator())
        order = np.random.default_rng(seed).permutation(sum(len(b["user_key"]) for b in batches))
        selected = order[: self.users]

        def store(weight: keras.Variable, parts: Sequence[NDArray[Any]], empty: float) -> None:
            width = weight.shape[1] if len(weight.shape) > 1 else 1
            rows = np.concatenate([_with_width(part, width, empty) for part in parts])[selected]
            table = np.full((self.users, width), empty, rows.dtype)
            table[: len(rows)] = rows
            weight.assign(table.reshape(weight.shape))

        store(self.keys, [b["user_key"] for b in batches], -1)
        store(self.events, [np.asarray(events_of(b)) for b in batches], PAD)
        for f in self.features:
            empty = np.nan if f.is_numeric else PAD
            store(self.fields[f.name], [b["features"][f.name] for b in batches], empty)

    def call(self, features: Features, keys: KeysB | None = None) -> tuple[Tensor, Tensor]:
        """Returns similarities float [B, K] and the neighbours' events int [B, K, length].

        Args:
            features: user features of B users.
            keys: int64 [B], keys of the users, so that they are not their own neighbours.
        """
        similarity = sum(self._similarity(f, features[f.name]) for f in self.features)
        if keys is not None:
            similarity = ops.where(keys[:, None] == self.keys, -1.0, similarity)
        highest, rows = ops.top_k(similarity, self.most)
        is_similar = ops.cast(highest > 0, "int32")[:, :, None]
        return ops.maximum(highest, 0.0), ops.take(self.events, rows, axis=0) * is_similar

    def _similarity(self, feature: Feature, values: Tensor) -> FloatBN:
        """Returns the part of one feature in the similarity, [B, N] for N stored users."""
        stored = ops.convert_to_tensor(self.fields[feature.name])
        if feature.is_numeric:
            values, stored = (numeric.transformed(feature, x) for x in (values, stored))
            distance = ops.mean(ops.abs(values[:, None] - stored[None]), axis=2)
            similarity = ops.exp(-distance / feature.scale)
            return ops.where(ops.isfinite(similarity), similarity, 0.0)
        shared = False
        for column in ops.unstack(stored, axis=1):
            same = ops.logical_and(values[:, :, None] == column, values[:, :, None] >= FIRST_ID)
            shared = ops.logical_or(shared, ops.any(same, axis=1))
        return ops.cast(shared, "float32")

    def _add_table(self, name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    def get_config(self) -> KerasConfig:
        sizes = {"users": self.users, "length": self.length, "most": self.most}
        return {**super().get_config(), "features": [vars(f) for f in self.features], **sizes}


def _with_width(part: NDArray[Any], width: int, empty: float) -> NDArray[Any]:
    """Cuts rows to their first `width` columns, or fills them up on the right."""
    part = np.reshape(part, (len(part), -1))[:, :width]
    missing = width - part.shape[1]
    return np.pad(part, [[0, 0], [0, missing]], constant_values=empty)

"""Train users whose features are most like a user's."""

import keras
import numpy as np
from keras import ops

from cmclrec_tf.baselines.base import events
from cmclrec_tf.schema import FIRST_ID, MULTI, PAD, TRAIN, Feature

# Values of a multi-valued field that are compared.
VALUES = 8


@keras.saving.register_keras_serializable("cmclrec_tf")
class Neighbours(keras.layers.Layer):
    """Finds train users by the similarity of fields, and gives their events.

    sim(u, t) = sum over the fields known of both of: 1 for an equal category, 1 for a value that
    both hold of a multi-valued field, exp(-|x_u - x_t| / scale) of a number.

    Args:
        features: the `schema.Feature`s, with numeric statistics.
        users: how many train users are kept; where there are more, they are drawn by lot.
        length: events kept of each, the newest.
        most: K, how many neighbours are given.
    """

    def __init__(self, features, users, length, most, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        self.features = tuple(Feature(**f) if isinstance(f, dict) else f for f in features)
        self.users, self.length, self.most = users, length, most
        self.keys = self._kept("keys", (users,), "int64")
        self.events = self._kept("events", (users, length), "int32")
        self.fields = {
            f.name: self._kept(
                f"{f.name}_values",
                (users, VALUES if f.kind == MULTI else f.numbers),
                "float32" if f.is_numeric else "int32",
            )
            for f in self.features
        }
        self.built = True

    def learn(self, dataset, seed=0) -> None:
        """Keeps train users of a `PreparedDataset`."""
        batches = list(dataset.batches(TRAIN, 1024, shuffle=False).as_numpy_iterator())
        order = np.random.default_rng(seed).permutation(sum(len(b["user_key"]) for b in batches))
        chosen = order[: self.users]

        def keep(weight, parts, nothing):
            width = weight.shape[1] if len(weight.shape) > 1 else 1
            rows = np.concatenate([_wide(part, width, nothing) for part in parts])[chosen]
            filled = np.full((self.users, width), nothing, rows.dtype)
            filled[: len(rows)] = rows
            weight.assign(filled.reshape(weight.shape))

        keep(self.keys, [b["user_key"] for b in batches], -1)
        keep(self.events, [np.asarray(events(b)) for b in batches], PAD)
        for f in self.features:
            nothing = np.nan if f.is_numeric else PAD
            keep(self.fields[f.name], [b["features"][f.name] for b in batches], nothing)

    def call(self, features, keys=None):
        """Features of B users -> similarities [B, K], events of the neighbours int [B, K, n].

        Args:
            keys: int64 [B], the users' own: nobody is a neighbour of their own.
        """
        similarity = sum(self._alike(f, features[f.name]) for f in self.features)
        if keys is not None:
            similarity = ops.where(keys[:, None] == self.keys, -1.0, similarity)
        found, at = ops.top_k(similarity, self.most)
        there = ops.cast(found > 0, "int32")[:, :, None]
        return ops.maximum(found, 0.0), ops.take(self.events, at, axis=0) * there

    def _alike(self, feature, values):
        """One field's part of the similarity, [B, N]."""
        kept = ops.convert_to_tensor(self.fields[feature.name])
        if feature.is_numeric:
            apart = ops.mean(ops.abs(values[:, None] - kept[None]), axis=2)
            alike = ops.exp(-apart / feature.scale)
            return ops.where(ops.isfinite(alike), alike, 0.0)
        shared = False
        for column in ops.unstack(kept, axis=1):
            same = ops.logical_and(values[:, :, None] == column, values[:, :, None] >= FIRST_ID)
            shared = ops.logical_or(shared, ops.any(same, axis=1))
        return ops.cast(shared, "float32")

    def _kept(self, name, shape, dtype):
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    def get_config(self):
        own = {"users": self.users, "length": self.length, "most": self.most}
        return {**super().get_config(), "features": [vars(f) for f in self.features], **own}


def _wide(part, width, nothing):
    """The first `width` columns, filled up on the right."""
    part = np.reshape(part, (len(part), -1))[:, :width]
    missing = width - part.shape[1]
    return np.pad(part, [[0, 0], [0, missing]], constant_values=nothing)

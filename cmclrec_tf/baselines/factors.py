"""Latent factors of users and items from implicit feedback, from which several baselines start."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from cmclrec_tf.baselines.base import Baseline, events_of
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.schema import FIRST_ID, TRAIN
from cmclrec_tf.types import Batch, FloatBD, FloatVD, IdsBL, KerasConfig, Scalar

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.schema import Schema

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# For each user, the items with events; or for each item, the users.
Groups = Sequence[tuple[int, Ints]]


@keras.saving.register_keras_serializable("cmclrec_tf")
class PreferenceVectors(keras.layers.Layer):
    """Matrix factorisation by alternating least squares; a user is represented by the history.

    It minimises sum_ui c_ui (p_ui - u.v)^2 + lambda (|u|^2 + |v|^2), with p = 1 and c = 1 + alpha
    for an event, p = 0 and c = 1 without one. The vector of a user who was not in the train split
    is the least squares solution for the learned item vectors:

        u = (V'V + lambda I + alpha X'X)^-1 (1 + alpha) X'1

    X holds the item vectors of the history; an item counts as often as it occurs.

    Source: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM
    2008.

    Args:
        items: V, the number of item ids.
        width: D.
        regularisation: lambda.
        confidence: alpha.
        sweeps: number of rounds over users and items.

    Example:
        >>> from keras import ops
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> layer = PreferenceVectors(data.schema.items, width=4)
        >>> layer.learn(data)
        >>> layer(ops.array([[0, 3, 8]])).shape  # a history of two items
        TensorShape([1, 4])
    """

    def __init__(
        self,
        items: int,
        width: int,
        regularisation: float = 1.0,
        confidence: float = 10.0,
        sweeps: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, **kwargs)
        self.items, self.width, self.sweeps = items, width, sweeps
        self.regularisation, self.confidence = regularisation, confidence

    def build(self, *_: object) -> None:
        self.table = self.add_weight(
            shape=(self.items, self.width), initializer="zeros", trainable=False, name="table"
        )
        # V'V + lambda I.
        self.gram = self.add_weight(
            shape=(self.width, self.width), initializer="identity", trainable=False, name="gram"
        )

    def learn(self, dataset: "PreparedDataset", seed: int = 0) -> None:
        """Factorises the events of the train split, histories and targets."""
        if not self.built:
            self.build()
        users, items = _train_events(dataset)
        rng = np.random.default_rng(seed)
        table = rng.normal(0, 0.1, (self.items, self.width))
        by_user, by_item = _group(users, items), _group(items, users)
        for _ in range(self.sweeps):
            vectors = self._solve(by_user, table, users.max() + 1)
            table = self._solve(by_item, vectors, self.items)
        self.table.assign(table)
        self.gram.assign(self._gram(table))

    def call(self, history: IdsBL) -> FloatBD:
        """Returns user vectors [B, D]; zeros for a history without known items."""
        known = ops.cast(history >= FIRST_ID, "float32")[:, :, None]
        x = ops.take(ops.convert_to_tensor(self.table), history, axis=0) * known
        a = self.gram + self.confidence * ops.matmul(ops.transpose(x, (0, 2, 1)), x)
        b = (1 + self.confidence) * ops.sum(x, axis=1)
        return tf.linalg.solve(a, b[:, :, None])[:, :, 0]

    def _gram(self, fixed: Floats) -> Floats:
        return fixed.T @ fixed + self.regularisation * np.eye(self.width)

    def _solve(self, groups: Groups, fixed: Floats, size: int) -> Floats:
        """Returns the least squares vectors [size, D] of one side, given those of the other."""
        gram, vectors = self._gram(fixed), np.zeros((size, self.width))
        for row, others in groups:
            x = fixed[others]
            right = (1 + self.confidence) * x.sum(axis=0)
            vectors[row] = np.linalg.solve(gram + self.confidence * x.T @ x, right)
        return vectors

    def get_config(self) -> KerasConfig:
        names = ("items", "width", "regularisation", "confidence", "sweeps")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class FactorBaseline(Baseline):
    """Baseline that starts from the factors of users and items.

    Subclasses call `preferences` on histories. Their items are the factors, or what an
    `item_network` makes of them.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> from cmclrec_tf.baselines.heater import Heater
        >>> issubclass(Heater, FactorBaseline)
        True
    """

    item_network: keras.Sequential | None = None

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        settings = self.config.baseline
        self.preferences = PreferenceVectors(
            schema.items,
            self.config.model.width,
            settings.regularisation,
            settings.confidence,
            settings.sweeps,
            name="preferences",
        )
        self.preferences.build()

    @property
    def table(self) -> FloatVD:
        v = ops.convert_to_tensor(self.preferences.table)
        return self.item_network(v) if self.item_network else v

    def prepare(self, dataset: "PreparedDataset") -> None:
        self.preferences.learn(dataset, self.config.seed)

    def score_loss(self, states: FloatBD, preference: FloatBD, batch: Batch) -> Scalar:
        """Returns mean_ui (state_u . item_network(v_i) - u . v_i)^2 over a sample of the items.

        The sample is the batch's targets and `finetune.negatives` items drawn by popularity.
        """
        assert self.item_network is not None, "the subclass sets item_network"
        sampled_ids, _ = sample_zipf(self.config.finetune.negatives, self.schema.items, self.seed)
        ids = ops.concatenate([batch["target"][:, 0], sampled_ids])
        v = ops.take(self.preferences.table, ids, axis=0)
        goal = ops.matmul(preference, ops.transpose(v))
        return ops.mean((ops.matmul(states, ops.transpose(self.item_network(v))) - goal) ** 2)


class LearnedItemsBaseline(FactorBaseline):
    """Baseline whose item embeddings start from the factors and are trained.

    The scores of the factors lie between about 0 and 1. Divided by `baseline.temperature`, a
    softmax can separate them. Small random embeddings would be a poor start: products of their
    means hardly change in training.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> from cmclrec_tf.baselines.clcrec import CLCRec
        >>> issubclass(CLCRec, LearnedItemsBaseline)
        True
    """

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        self.items = item_embedding(schema, self.config.model.width)
        self.items.build()

    @property
    def table(self) -> FloatVD:
        return self.items.embeddings

    def prepare(self, dataset: "PreparedDataset") -> None:
        super().prepare(dataset)
        start = self.preferences.table / self.config.baseline.temperature
        self.items.embeddings.assign(start)


def _train_events(dataset: "PreparedDataset") -> tuple[Ints, Ints]:
    """Returns the row and the item of each event of the train split."""
    rows, ids, first = [], [], 0
    for batch in dataset.batches(TRAIN, 1024, shuffle=False):
        items = np.asarray(events_of(batch))
        row, column = np.nonzero(items >= FIRST_ID)
        rows.append(first + row)
        ids.append(items[row, column])
        first += len(items)
    return np.concatenate(rows), np.concatenate(ids)


def _group(keys: Ints, values: Ints) -> Groups:
    """Returns a pair (key, its values) for each distinct key."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return list(zip(keys[starts], np.split(values, starts[1:]), strict=True))

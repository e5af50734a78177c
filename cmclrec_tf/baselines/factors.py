"""Latent factors of users and items from implicit feedback: what several baselines start from."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from cmclrec_tf.baselines.base import Baseline, events
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.schema import FIRST_ID, TRAIN


@keras.saving.register_keras_serializable("cmclrec_tf")
class PreferenceVectors(keras.layers.Layer):
    """Matrix factorisation by alternating least squares; users come in by their history alone.

    Minimises sum_ui c_ui (p_ui - u.v)^2 + lambda (|u|^2 + |v|^2) with p = 1 for an event and 0
    without, c = 1 + alpha for an event and 1 without. Of a user who was not there in training the
    vector is the same least squares solution for given item vectors:

        u = (V'V + lambda I + alpha X'X)^-1 (1 + alpha) X'1

    with the item vectors X of the history, an item counted as often as it is in it.

    Args:
        items: number of item ids. width: D.
        regularisation: lambda. confidence: alpha. sweeps: rounds over users and items.

    Source: Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM
    2008.
    """

    def __init__(self, items, width, regularisation=1.0, confidence=10.0, sweeps=8, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.items, self.width, self.sweeps = items, width, sweeps
        self.regularisation, self.confidence = regularisation, confidence

    def build(self, *_) -> None:
        self.table = self.add_weight(
            shape=(self.items, self.width), initializer="zeros", trainable=False, name="table"
        )
        # V'V + lambda I.
        self.gram = self.add_weight(
            shape=(self.width, self.width), initializer="identity", trainable=False, name="gram"
        )

    def learn(self, dataset, seed=0) -> None:
        """Factorises the train split's events, histories and targets."""
        if not self.built:
            self.build()
        users, items = _events(dataset)
        rng = np.random.default_rng(seed)
        table = rng.normal(0, 0.1, (self.items, self.width))
        by_user, by_item = _grouped(users, items), _grouped(items, users)
        for _ in range(self.sweeps):
            vectors = self._solved(by_user, table, users.max() + 1)
            table = self._solved(by_item, vectors, self.items)
        self.table.assign(table)
        self.gram.assign(self._gram(table))

    def call(self, history):
        """history ids [B, n] -> user vectors [B, D]; zeros for a history without known items."""
        known = ops.cast(history >= FIRST_ID, "float32")[:, :, None]
        x = ops.take(ops.convert_to_tensor(self.table), history, axis=0) * known
        a = self.gram + self.confidence * ops.matmul(ops.transpose(x, (0, 2, 1)), x)
        b = (1 + self.confidence) * ops.sum(x, axis=1)
        return tf.linalg.solve(a, b[:, :, None])[:, :, 0]

    def _gram(self, fixed):
        return fixed.T @ fixed + self.regularisation * np.eye(self.width)

    def _solved(self, groups, fixed, size):
        """The least squares vectors of one side for given vectors of the other: [size, D]."""
        gram, found = self._gram(fixed), np.zeros((size, self.width))
        for row, others in groups:
            x = fixed[others]
            right = (1 + self.confidence) * x.sum(axis=0)
            found[row] = np.linalg.solve(gram + self.confidence * x.T @ x, right)
        return found

    def get_config(self):
        own = ("items", "width", "regularisation", "confidence", "sweeps")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


class FactorBaseline(Baseline):
    """A baseline that starts from the factors of users and items.

    Subclasses call `preferences` on histories, and take items from its table, as it is or through
    an `item_network`.
    """

    item_network = None

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        own = self.config.baseline
        self.preferences = PreferenceVectors(
            schema.items,
            self.config.model.width,
            own.regularisation,
            own.confidence,
            own.sweeps,
            name="preferences",
        )
        self.preferences.build()

    @property
    def table(self):
        v = ops.convert_to_tensor(self.preferences.table)
        return self.item_network(v) if self.item_network else v

    def prepare(self, dataset) -> None:
        self.preferences.learn(dataset, self.config.seed)

    def score_loss(self, states, preference, batch):
        """mean_ui (state_u . item_network(v_i) - u . v_i)^2 over some of the items.

        They are the batch's targets and others drawn by popularity, `finetune.negatives` of them.
        """
        drawn, _ = sample_zipf(self.config.finetune.negatives, self.schema.items, self.seed)
        ids = ops.concatenate([batch["target"][:, 0], drawn])
        v = ops.take(self.preferences.table, ids, axis=0)
        wanted = ops.matmul(preference, ops.transpose(v))
        return ops.mean((ops.matmul(states, ops.transpose(self.item_network(v))) - wanted) ** 2)


class LearnedItemsBaseline(FactorBaseline):
    """A baseline whose item embeddings start from the factors, and learn.

    Scores of the factors lie about between 0 and 1; divided by `baseline.temperature` a softmax
    tells them apart. From small random embeddings products of means of embeddings hardly move.
    """

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        self.items = item_embedding(schema, self.config.model.width)
        self.items.build()

    @property
    def table(self):
        return self.items.embeddings

    def prepare(self, dataset) -> None:
        super().prepare(dataset)
        start = self.preferences.table / self.config.baseline.temperature
        self.items.embeddings.assign(start)


def _events(dataset):
    """Row and item of each event of the train split."""
    rows, ids, first = [], [], 0
    for batch in dataset.batches(TRAIN, 1024, shuffle=False):
        found = np.asarray(events(batch))
        row, column = np.nonzero(found >= FIRST_ID)
        rows.append(first + row)
        ids.append(found[row, column])
        first += len(found)
    return np.concatenate(rows), np.concatenate(ids)


def _grouped(keys, values):
    """[(key, its values)] for every key that there is."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return list(zip(keys[starts], np.split(values, starts[1:]), strict=True))

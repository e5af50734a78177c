"""Process that trains the two towers with TensorFlow Recommenders; `two_tower` starts it."""

import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.evaluation import metrics
from cmclrec_tf.schema import FIRST_ID, PAD
from experiments.two_tower.tower_config import DATA, PARAMETERS, SETTINGS, TwoTowerConfig
from serving.retrieval import BRUTE_FORCE, load_layers

# Loads Keras 2 as `tf.keras`, before anything else imports TensorFlow.
factorized_top_k = load_layers(BRUTE_FORCE)

import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402
import tf_keras as keras  # noqa: E402, TID251  the one that TensorFlow Recommenders needs

_SECONDS_BETWEEN_LINES = 10.0


class Towers(tfrs.Model):
    """A query tower over user features and history, and a tower of item embeddings.

    The query is an MLP over the embeddings of the user features, the mean of the history's item
    embeddings, and a flag that is 0 without a history. The loss is the softmax over the items of a
    batch, corrected for how often each item is in one, without the same item as a negative.

    Args:
        settings: `TwoTowerConfig`.
        data: arrays of `tower_inputs.arrays`.
    """

    def __init__(self, settings: TwoTowerConfig, data: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        rows, self._features, items = map(int, data["sizes"])
        self.settings = settings
        self.slots = keras.layers.Embedding(rows, settings.feature_width)
        self.items = keras.layers.Embedding(items, settings.width)
        self.inner = keras.layers.Dense(settings.hidden, "relu")
        self.outer = keras.layers.Dense(settings.width)
        self.drop = keras.layers.Dropout(settings.dropout)
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
        self._train = {
            name: tf.constant(data[f"train_{name}"]) for name in ("ids", "weights", "events")
        }
        # A width of several categories differs between the splits.
        self._fields = {
            split: np.eye(self._features, dtype=np.float32)[data[f"{split}_fields"]]
            for split in ("train", "val")
        }
        self.counts = np.bincount(data["train_events"][tuple(data["pairs"].T)], minlength=items)
        self._shares = tf.constant(self.counts / self.counts.sum(), tf.float32)
        # An item of no pair is no negative either, so its score means nothing.
        self.candidates = self.counts > 0

    def query(
        self,
        ids: tf.Tensor,
        weights: tf.Tensor,
        history: tf.Tensor,
        split: str,
        training: bool = False,
    ) -> tf.Tensor:
        """Returns the queries [B, D] of users of a split; PAD of a history is left out."""
        weighted = self.slots(ids) * weights[:, :, None]
        tokens = tf.einsum("bsw,sm->bmw", weighted, self._fields[split])
        is_item = tf.cast(history >= FIRST_ID, tf.float32)[:, :, None]
        count = tf.reduce_sum(is_item, axis=1)
        mean = tf.reduce_sum(self.items(history) * is_item, axis=1) / tf.maximum(count, 1)
        tokens = tf.reshape(tokens, (-1, self._features * self.settings.feature_width))
        inputs = tf.concat([tokens, mean, tf.minimum(count, 1)], axis=1)
        return self.outer(self.drop(self.inner(inputs), training=training))

    def compute_loss(self, pairs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the loss of pairs int32 [B, 2], see `tower_inputs.pairs`."""
        users, at = pairs[:, 0], pairs[:, 1]
        events = tf.gather(self._train["events"], users)
        items = tf.gather(events, at, batch_dims=1)
        hidden = tf.random.uniform(tf.shape(at)) < self.settings.history_dropout
        end = tf.where(hidden, 0, at)[:, None]
        history = tf.where(tf.range(events.shape[1])[None] < end, events, 0)
        ids, weights = (tf.gather(self._train[name], users) for name in ("ids", "weights"))
        return self.task(
            self.query(ids, weights, history, "train", training),
            self.items(items),
            candidate_sampling_probability=tf.gather(self._shares, items),
            candidate_ids=items,
            compute_metrics=False,
        )

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Returns the parameters that `two_tower.TwoTower` reads."""
        (inner, inner_bias), (outer, outer_bias) = (
            self.inner.get_weights(),
            self.outer.get_weights(),
        )
        return {
            "slots": self.slots.get_weights()[0],
            "items": self.items.get_weights()[0],
            "inner": inner,
            "inner_bias": inner_bias,
            "outer": outer,
            "outer_bias": outer_bias,
            "counts": np.asarray(self.counts),
        }


class Validation(keras.callbacks.Callback):
    """Adds the NDCG@K of the validation users to the logs of an epoch.

    `val_ndcg` is the geometric mean of the NDCG with the history and without it, as for CMCLRec.

    Args:
        towers: the model.
        data: arrays of `tower_inputs.arrays`.
    """

    def __init__(self, towers: Towers, data: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self._towers, self._data = towers, data
        self._start = self._printed = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        values = self.values()
        logs["val_ndcg"] = values["ndcg"]
        if time.monotonic() - self._printed > _SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            seconds = self._printed - self._start
            print(
                f"two-tower: epoch {epoch + 1}, {seconds:.0f} s, val_ndcg={values['ndcg']:.4f}",
                file=sys.stderr,
                flush=True,
            )

    def values(self) -> dict[str, float]:
        """Returns the NDCG@K with the history and without it, and their geometric mean."""
        history, last = self._data["val_events"][:, :-1], self._data["val_events"][:, -1:]
        nothing, k = np.zeros_like(history), self._towers.settings.k
        values = {}
        for segment, read in (("warm", history), ("cold", nothing)):
            lists = self._lists(read, k)
            hit, relevant = metrics.hits(lists, list(np.where(last >= FIRST_ID, last, -1)))
            values[f"ndcg_{segment}"] = float(metrics.ndcg(hit, relevant, k).mean())
        return {**values, "ndcg": float(np.sqrt(values["ndcg_warm"] * values["ndcg_cold"]))}

    def factorized_top_k(self) -> float:
        """Returns the Recall@K without the history, by the metric of TensorFlow Recommenders."""
        k, items = self._towers.settings.k, self._towers.parameters()["items"]
        candidates = np.flatnonzero(self._towers.candidates).astype(np.int32)
        k = min(k, len(candidates))
        index = factorized_top_k.BruteForce(k=k)
        index.index(tf.constant(items[candidates]), tf.constant(candidates))
        metric = tfrs.metrics.FactorizedTopK(index, ks=(k,))
        last = self._data["val_events"][:, -1]
        for rows, queries in self._queries(np.zeros_like(self._data["val_events"][:, :-1])):
            metric.update_state(queries, tf.gather(items, last[rows]), tf.constant(last[rows]))
        return float(metric.result()[0])

    def _queries(self, history):
        """Yields the rows and queries of blocks of validation users, for histories [n, L]."""
        for start in range(0, len(history), 1024):
            rows = slice(start, start + 1024)
            ids, weights = (self._data[f"val_{name}"][rows] for name in ("ids", "weights"))
            yield rows, self._towers.query(ids, weights, history[rows], "val")

    def _lists(self, history, k):
        items = self._towers.items.get_weights()[0]
        k = min(k, int(self._towers.candidates.sum()))
        lists = []
        for rows, queries in self._queries(history):
            scores = queries.numpy() @ items.T
            if self._towers.settings.hides_history:
                np.put_along_axis(scores, history[rows], -np.inf, axis=1)
            scores[:, ~self._towers.candidates] = -np.inf
            best, ids = tf.math.top_k(scores, k)
            lists.append(np.where(np.isfinite(best), ids, PAD))
        return np.concatenate(lists)


def train(settings: TwoTowerConfig, data: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Trains the towers; returns their parameters, and `validation/<metric>` of the best epoch."""
    keras.utils.set_random_seed(settings.seed)
    towers, pairs = Towers(settings, data), data["pairs"]
    towers.compile(keras.optimizers.Adam(settings.learning_rate))
    size = min(settings.batch_size, len(pairs))
    batches = tf.data.Dataset.from_tensor_slices(pairs).shuffle(len(pairs), settings.seed)
    validation = Validation(towers, data)
    stop = keras.callbacks.EarlyStopping(
        "val_ndcg", mode="max", patience=settings.patience, restore_best_weights=True
    )
    towers.fit(
        batches.repeat().batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE),
        epochs=settings.epochs,
        steps_per_epoch=max(settings.epoch_steps, len(pairs) // size),
        callbacks=[validation, stop],
        verbose=0,
    )
    # Keras goes back to the best epoch by itself only if it stops early.
    towers.set_weights(stop.best_weights)
    values = {**validation.values(), "factorized_top_k": validation.factorized_top_k()}
    named = {f"validation/{name}": np.asarray(value) for name, value in values.items()}
    return {**towers.parameters(), **named}


def main() -> None:
    """Reads an exchange folder, and writes the parameters to it."""
    folder = pathlib.Path(sys.argv[1])
    settings = TwoTowerConfig(**json.loads((folder / SETTINGS).read_text()))
    with np.load(folder / DATA, allow_pickle=False) as data:
        parameters: dict[str, Any] = train(settings, dict(data))
    np.savez(folder / PARAMETERS, **parameters)


if __name__ == "__main__":
    main()

"""Floor that predicts items directly from user features: the one that a cold path has to beat."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cmclrec_tf import augment
from cmclrec_tf.baselines.base import check_precision
from cmclrec_tf.callbacks import Progress
from cmclrec_tf.config import checks
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, PAD, TRAIN, VAL, Schema
from cmclrec_tf.types import Features, FloatB, FloatBV, IdsBK, IdsBN, KerasConfig, Tensor, Users

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset


@dataclasses.dataclass(frozen=True)
class FeatureMLPConfig:
    """Shape and training of a `FeatureMLP`.

    Attributes:
        events: `all` trains on all distinct items of a user's record, `last` on the last one.
        width: D, the width of a feature's token.
        hidden: width of the hidden layer.
        field_dropout: probability that a feature is masked in training.
        dropout: dropout rate of the hidden layer.
        learning_rate: of AdamW.
        weight_decay: weight decay of all weights except the item biases.
        batch_size: users per step.
        epochs: most passes over the train split.
        patience: epochs without a better validation NDCG@k before training stops.
        k: the K of this NDCG.
        seed: seeds weights, shuffling and dropout.
        hides_history: whether items of a warm user's history are left out of the lists.

    Example:
        >>> FeatureMLPConfig(events="last", hidden=64).patience
        6
    """

    events: str = "all"
    width: int = 32
    hidden: int = 128
    field_dropout: float = 0.3
    dropout: float = 0.3
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    batch_size: int = 256
    epochs: int = 60
    patience: int = 6
    k: int = 20
    seed: int = 0
    hides_history: bool = True

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.one_of(self, "events", ("all", "last"))
        checks.positive(self, "width", "hidden", "learning_rate", "batch_size", "epochs")
        checks.positive(self, "patience", "k")
        checks.not_negative(self, "weight_decay", "seed")
        checks.share(self, "field_dropout", "dropout")


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureMLP(keras.Model):
    """scores = W2 gelu(W1 [tokens of all features] + b1) + b2; the history is not used.

    Args:
        schema: `Schema` with vocabulary sizes.
        settings: `FeatureMLPConfig`; None means the defaults.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> batch = next(iter(data.batches("test", 4)))
        >>> FeatureMLP(data.schema).recommend(batch, k=5).shape
        TensorShape([4, 5])
    """

    has_logits = True

    def __init__(
        self, schema: Schema, settings: FeatureMLPConfig | None = None, **kwargs: Any
    ) -> None:
        # The tokens standardise large numbers before anything is cast.
        super().__init__(autocast=False, **kwargs)
        self.schema, self.settings = schema, settings or FeatureMLPConfig()
        self.tokens = FeatureTokens(schema.features, self.settings.width, name="tokens")
        self.inner = Dense(self.settings.hidden, activation="gelu", name="inner")
        self.drop = keras.layers.Dropout(self.settings.dropout, seed=self.settings.seed)
        self.outer = Dense(schema.items, name="items")
        self.seed = keras.random.SeedGenerator(self.settings.seed)

    def call(self, features: Features, training: bool | None = None) -> FloatBV:
        """Returns the scores [B, V], with MASKED_SCORE for PAD and OOV."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        masked = None
        if training and self.settings.field_dropout:
            masked = augment.drop_fields(rows, fields, self.settings.field_dropout, self.seed)
        flat = ops.reshape(self.tokens(features, masked), (rows, fields * self.settings.width))
        scores = self.outer(self.drop(self.inner(flat), training=training))
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, MASKED_SCORE)

    def logits(self, batch: Users) -> FloatBV:
        """Returns the scores [B, V] that `recommend` ranks."""
        return self(batch["features"], training=False)

    def recommend(self, batch: Users, k: int) -> IdsBK:
        """Returns ids [B, K], best first."""
        return ranking.recommend(self.logits(batch), batch, k, self.settings.hides_history)

    def get_config(self) -> KerasConfig:
        return {"schema": self.schema.to_dict(), "settings": dataclasses.asdict(self.settings)}

    @classmethod
    def from_config(cls, config: KerasConfig) -> "FeatureMLP":
        return cls(Schema.from_dict(config["schema"]), FeatureMLPConfig(**config["settings"]))


def train_feature_mlp(
    dataset: "PreparedDataset", settings: FeatureMLPConfig | None = None
) -> FeatureMLP:
    """Trains a `FeatureMLP` and keeps the weights with the best validation NDCG.

    The NDCG is that of the model's own targets, see `FeatureMLPConfig.events`.

    Args:
        dataset: `PreparedDataset` with train and validation users; both are read into memory.
        settings: `FeatureMLPConfig`; None means the defaults.

    Returns:
        The trained `FeatureMLP`.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> model = train_feature_mlp(toy_dataset(), FeatureMLPConfig(epochs=1))
        >>> model.settings.epochs
        1
    """
    check_precision("features-mlp")
    settings = settings or FeatureMLPConfig()
    keras.utils.set_random_seed(settings.seed)
    features, items = read_split(dataset, TRAIN, settings.events)
    model = FeatureMLP(dataset.schema, settings)
    model({name: values[:1] for name, values in features.items()})
    # The model starts as the popularity list. It only has to learn how users deviate from it.
    counts = np.bincount(items.ravel(), minlength=dataset.schema.items)
    model.outer.bias.assign(np.log(counts + 0.5) - np.log(len(items)))
    adam = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    adam.exclude_from_weight_decay([model.outer.bias])
    adam.build(model.trainable_variables)
    # On a CPU, XLA would sort all items for the metric's top K.
    model.compile(adam, loss=soft_next_items, metrics=[NDCG(settings.k)], jit_compile=False)
    best = keras.callbacks.EarlyStopping(
        "val_ndcg", mode="max", patience=settings.patience, restore_best_weights=True
    )
    model.fit(
        features,
        items,
        settings.batch_size,
        epochs=settings.epochs,
        validation_data=read_split(dataset, VAL, settings.events),
        verbose=0,
        callbacks=[Progress(f"features-mlp ({settings.events})", "loss", "val_ndcg"), best],
    )
    return model


def read_split(
    dataset: "PreparedDataset", split: str, events: str
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Reads a whole split into memory.

    Args:
        dataset: `PreparedDataset`.
        split: `train`, `val` or `test`.
        events: `all` or `last`, see `FeatureMLPConfig`.

    Returns:
        User features by name [n, W], and each user's distinct items int32 [n, m], padded with PAD.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> features, items = read_split(toy_dataset(), "val", "last")
        >>> features["age"].shape, items.shape
        ((32, 1), (32, 1))
    """
    features, items = [], []
    for batch in dataset.batches(split, 1024, shuffle=False).as_numpy_iterator():
        features.append(batch["features"])
        for history, target in zip(batch["history"], batch["target"], strict=True):
            target = target[target != PAD]
            row = target[-1:] if events == "last" else np.concatenate([history, target])
            items.append(np.unique(row[row != PAD]))
    return {name: _stack([f[name] for f in features]) for name in features[0]}, _pad(items)


def _stack(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stacks arrays [b, w] of different widths on top of each other."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])


def _pad(rows: Sequence[NDArray[Any]]) -> NDArray[np.int32]:
    table = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for padded, row in zip(table, rows, strict=True):
        padded[: len(row)] = row
    return table


@keras.saving.register_keras_serializable("cmclrec_tf")
def soft_next_items(items: IdsBN, scores: FloatBV) -> FloatB:
    """Softmax cross-entropy with equal shares for all of a user's items.

    log sum exp(scores) - mean score of the user's items

    Args:
        items: int [B, m], distinct, padded with PAD.
        scores: float [B, V].

    Returns:
        float [B].

    Example:
        >>> items, scores = ops.array([[2, 3]]), ops.array([[-1e9, -1e9, 0.0, 0.0]])
        >>> round(float(soft_next_items(items, scores)[0]), 4)  # log 2
        0.6931
    """
    known = ops.cast(items >= FIRST_ID, "float32")
    item_scores = ops.take_along_axis(scores, ops.cast(items, "int32"), axis=1)
    total = ops.sum(ops.where(known > 0, item_scores, 0.0), axis=1)
    return ops.logsumexp(scores, axis=1) - total / ops.maximum(ops.sum(known, axis=1), 1)


@keras.saving.register_keras_serializable("cmclrec_tf")
class NDCG(keras.metrics.Mean):
    """Mean NDCG@k of scores [B, V] for distinct items int [B, m], padded with PAD.

    Args:
        k: the cut of the list and of the ideal list.
        name: of the metric.

    Example:
        >>> metric = NDCG(k=2)
        >>> metric.update_state(ops.array([[3]]), ops.array([[-1e9, -1e9, 0.0, 1.0]]))
        >>> float(metric.result())
        1.0
    """

    def __init__(self, k: int = 20, name: str = "ndcg", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.k = k

    def update_state(
        self, items: IdsBN, scores: FloatBV, sample_weight: Tensor | None = None
    ) -> None:
        k = min(self.k, scores.shape[1])
        _, lists = ops.top_k(scores, k)  # [B, K]
        items = ops.cast(items, "int32")
        hit = ops.any(lists[:, :, None] == items[:, None, :], axis=2)
        hit = ops.logical_and(hit, lists != PAD)
        discounts = 1 / np.log2(np.arange(2, k + 2)).astype("float32")
        ideal = np.concatenate([[0], np.cumsum(discounts)]).astype("float32")
        n = ops.sum(ops.cast(items != PAD, "int32"), axis=1)
        best = ops.take(ideal, ops.minimum(n, k))
        gained = ops.sum(ops.cast(hit, "float32") * discounts, axis=1)
        super().update_state(gained / ops.maximum(best, 1e-9))

    def get_config(self) -> KerasConfig:
        return {"name": self.name, "dtype": self.dtype, "k": self.k}

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
from cmclrec_tf.baselines.item_sets import NDCG, decayed_next_items, soft_next_items
from cmclrec_tf.callbacks import Progress
from cmclrec_tf.config import checks
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, PAD, TRAIN, VAL, Schema
from cmclrec_tf.types import Features, FloatBV, IdsBK, KerasConfig, Users

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

EVENTS = ("all", "last", "decayed")


@dataclasses.dataclass(frozen=True)
class FeatureMLPConfig:
    """Shape and training of a `FeatureMLP`.

    Attributes:
        events: `all` trains on all distinct items of a user's record, `last` on the last one,
            `decayed` on all events, where each next older one has 0.8 times the weight.
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
        checks.one_of(self, "events", EVENTS)
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

    The NDCG is that of the model's own targets, see `FeatureMLPConfig.events`; with `decayed` it
    is that of the last items.

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
    is_decayed = settings.events == "decayed"
    first = items[:, -1] if is_decayed else items.ravel()
    counts = np.bincount(first, minlength=dataset.schema.items)
    model.outer.bias.assign(np.log(counts + 0.5) - np.log(len(items)))
    adam = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    adam.exclude_from_weight_decay([model.outer.bias])
    adam.build(model.trainable_variables)
    # On a CPU, XLA would sort all items for the metric's top K.
    loss = decayed_next_items if is_decayed else soft_next_items
    model.compile(adam, loss=loss, metrics=[NDCG(settings.k)], jit_compile=False)
    best = keras.callbacks.EarlyStopping(
        "val_ndcg", mode="max", patience=settings.patience, restore_best_weights=True
    )
    model.fit(
        features,
        items,
        settings.batch_size,
        epochs=settings.epochs,
        validation_data=read_validation(dataset, settings.events),
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
        events: one of EVENTS, see `FeatureMLPConfig`.

    Returns:
        User features by name [n, W], and each user's distinct items int32 [n, m], padded with PAD.
        With `decayed`, the items of all events in their order, the newest one in the last column.

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
            row = row[row != PAD]
            # Padding follows the items: those of events are turned, and turned back below.
            items.append(row[::-1] if events == "decayed" else np.unique(row))
    padded = _pad(items)[:, ::-1] if events == "decayed" else _pad(items)
    return {name: _stack([f[name] for f in features]) for name in features[0]}, padded


def read_validation(
    dataset: "PreparedDataset", events: str
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int32]]:
    """Returns the validation users with the items that stop the training, as `read_split` does.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> features, items = read_validation(toy_dataset(), "decayed")
        >>> items.shape  # the last item of each user
        (32, 1)
    """
    return read_split(dataset, VAL, "last" if events == "decayed" else events)


def _stack(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stacks arrays [b, w] of different widths on top of each other."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])


def _pad(rows: Sequence[NDArray[Any]]) -> NDArray[np.int32]:
    table = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for padded, row in zip(table, rows, strict=True):
        padded[: len(row)] = row
    return table

"""The floor that a cold way has to beat: user features straight to items."""

import dataclasses

import keras
import numpy as np
from keras import ops

from cmclrec_tf import augment
from cmclrec_tf.callbacks import Progress
from cmclrec_tf.config import checks
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, PAD, TRAIN, VAL, Schema


@dataclasses.dataclass(frozen=True)
class FeatureMLPConfig:
    """Shape and training of a `FeatureMLP`.

    Attributes:
        events: a user's targets, `all` distinct items of the record or the `last` one.
        width: D of a field's token. hidden: width of the hidden layer.
        field_dropout: chance that a field is masked in training. dropout: of the hidden layer.
        weight_decay: of every weight but the item biases.
        patience: epochs without a better validation NDCG@k before training stops.
        k: that K.
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

    def __post_init__(self):
        checks.one_of(self, "events", ("all", "last"))
        checks.positive(self, "width", "hidden", "learning_rate", "batch_size", "epochs")
        checks.positive(self, "patience", "k")
        checks.not_negative(self, "weight_decay", "seed")
        checks.share(self, "field_dropout", "dropout")


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureMLP(keras.Model):
    """scores = W2 gelu(W1 [tokens of all fields] + b1) + b2, the history unseen.

    Args:
        schema: `Schema` with vocabulary sizes.
        settings: `FeatureMLPConfig`.
    """

    def __init__(self, schema, settings=None, **kwargs):
        # The tokens standardise large numbers before anything is cast.
        super().__init__(autocast=False, **kwargs)
        self.schema, self.settings = schema, settings or FeatureMLPConfig()
        self.tokens = FeatureTokens(schema.features, self.settings.width, name="tokens")
        self.inner = Dense(self.settings.hidden, activation="gelu", name="inner")
        self.drop = keras.layers.Dropout(self.settings.dropout, seed=self.settings.seed)
        self.outer = Dense(schema.items, name="items")
        self.seed = keras.random.SeedGenerator(self.settings.seed)

    def call(self, features, training=None):
        """features {name: ids [B, W] or floats [B, 1]} -> scores [B, V]; PAD, OOV very low."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        masked = None
        if training and self.settings.field_dropout:
            masked = augment.drop_fields(rows, fields, self.settings.field_dropout, self.seed)
        flat = ops.reshape(self.tokens(features, masked), (rows, fields * self.settings.width))
        scores = self.outer(self.drop(self.inner(flat), training=training))
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, MASKED_SCORE)

    def recommend(self, batch, k):
        """batch -> ids of the K best items [B, K], those of the history left out."""
        return ranking.recommended(self(batch["features"], training=False), batch, k)

    def get_config(self):
        return {"schema": self.schema.to_dict(), "settings": dataclasses.asdict(self.settings)}

    @classmethod
    def from_config(cls, config):
        return cls(Schema.from_dict(config["schema"]), FeatureMLPConfig(**config["settings"]))


def train_feature_mlp(dataset, settings=None):
    """Fits a `FeatureMLP`; the weights of the best validation NDCG by its own targets are kept.

    Args:
        dataset: `PreparedDataset` with a train and a val split, each read once into memory.
        settings: `FeatureMLPConfig`.

    Returns:
        The trained `FeatureMLP`.
    """
    settings = settings or FeatureMLPConfig()
    keras.utils.set_random_seed(settings.seed)
    features, items = read_split(dataset, TRAIN, settings.events)
    model = FeatureMLP(dataset.schema, settings)
    model({name: values[:1] for name, values in features.items()})
    # From the start the best list for everybody; what is left to learn is who departs from it.
    counts = np.bincount(items.ravel(), minlength=dataset.schema.items)
    model.outer.bias.assign(np.log(counts + 0.5) - np.log(len(items)))
    adam = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    adam.exclude_from_weight_decay([model.outer.bias])
    adam.build(model.trainable_variables)
    # XLA on a CPU sorts all items for the metric's top K.
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


def read_split(dataset, split, events):
    """A whole split in memory.

    Returns:
        {feature: array [n, W]} and distinct items int32 [n, m], padded with PAD: the last ones, or
        all of the record.
    """
    features, items = [], []
    for batch in dataset.batches(split, 1024, shuffle=False).as_numpy_iterator():
        features.append(batch["features"])
        for history, target in zip(batch["history"], batch["target"], strict=True):
            target = target[target != PAD]
            row = target[-1:] if events == "last" else np.concatenate([history, target])
            items.append(np.unique(row[row != PAD]))
    return {name: _joined([f[name] for f in features]) for name in features[0]}, _padded(items)


def _joined(parts):
    """Arrays [b, w] of several widths, one under another."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])


def _padded(rows):
    table = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


@keras.saving.register_keras_serializable("cmclrec_tf")
def soft_next_items(items, scores):
    """Softmax cross-entropy against all of a user's items alike: float [B].

    log sum exp(scores) - mean of the scores of the user's items.

    Args:
        items: int [B, m], distinct, padded with PAD. scores: [B, V].
    """
    known = ops.cast(items >= FIRST_ID, "float32")
    own = ops.take_along_axis(scores, ops.cast(items, "int32"), axis=1)
    mean = ops.sum(ops.where(known > 0, own, 0.0), axis=1) / ops.maximum(ops.sum(known, axis=1), 1)
    return ops.logsumexp(scores, axis=1) - mean


@keras.saving.register_keras_serializable("cmclrec_tf")
class NDCG(keras.metrics.Mean):
    """Mean NDCG@k of scores [B, V] against distinct items int [B, m], padded with PAD.

    Args:
        k: the cut, of the list and of the ideal one.
    """

    def __init__(self, k=20, name="ndcg", **kwargs):
        super().__init__(name=name, **kwargs)
        self.k = k

    def update_state(self, items, scores, sample_weight=None):
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
        return super().update_state(gained / ops.maximum(best, 1e-9))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "k": self.k}

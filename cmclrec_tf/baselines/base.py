"""The contract of the baselines of other papers: a recommender behind the same fit."""


import keras
from keras import ops

from cmclrec_tf import augment
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.losses.next_item import next_item
from cmclrec_tf.models import ranking
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import FIRST_ID, PAD

VALIDATION = ("loss", "loss/warm", "loss/cold")


class Baseline(Recommender):
    """A cold-start recommender of another paper.

    It is trained by the settings of `finetune`, with `model.width` and those of `baseline` beside
    them, validated on both segments and judged as every recommender of this package is. Subclasses
    set `items`, or override `table`; they implement `user_states` and `losses_of`, and `prepare`
    where the fit starts from something that is learned before.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.
        losses: names of what `losses_of` returns beside `loss`; a class attribute.
    """

    losses = ()

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, (*VALIDATION, *self.losses), **kwargs)
        self.seed = keras.random.SeedGenerator(config.seed)
        self.tokens = FeatureTokens(schema.features, config.model.width, name="tokens")

    def prepare(self, dataset) -> None:
        """Learns from a `PreparedDataset` what the fit starts from; called once, before it."""

    def user_states(self, history, features, is_cold, training=None):
        """history [B, L], features, is_cold bool [B] -> user states [B, D].

        Nothing of the history of a row that is cold may get through.
        """
        raise NotImplementedError

    def call(self, batch, training=None):
        """batch -> the user states [B, D]."""
        is_cold = batch["is_cold"]
        history = ops.where(is_cold[:, None], PAD, batch["history"])
        return self.user_states(history, batch["features"], is_cold, training)

    def warm_states(self, history):
        """history ids [B, L] -> user states [B, D] of users of whom no feature is known."""
        rows = ops.shape(history)[0]
        return self.user_states(
            history, missing(self.schema, rows), ops.zeros((rows,), "bool"), training=False
        )

    def cold_states(self, features):
        """user features -> user states [B, D]."""
        rows = ops.shape(next(iter(features.values())))[0]
        history = ops.full((rows, 1), PAD, "int32")
        return self.user_states(history, features, ops.ones((rows,), "bool"), training=False)

    def warm_and_cold_states(self, batch):
        rows = ops.shape(batch["history"])[0]
        warm = self.user_states(
            batch["history"], batch["features"], ops.zeros((rows,), "bool"), training=False
        )
        return warm, self.cold_states(batch["features"])

    def build_from_config(self, config) -> None:
        """Makes all weights, so that saved ones find their place: by the call of one user."""
        history = ops.full((1, self.config.data.max_history), PAD, "int32")
        is_cold = ops.zeros((1,), "bool")
        self({"history": history, "features": missing(self.schema, 1), "is_cold": is_cold})

    def average(self, history):
        """The mean embedding of a history's known items: [B, L] -> [B, D]; 0 without any."""
        known = ops.cast(history >= FIRST_ID, "float32")[:, :, None]
        return ops.sum(self.items(history) * known, axis=1) / ops.maximum(ops.sum(known, axis=1), 1)

    def left_out(self, batch, training=None):
        """One item of a user's events, drawn by lot in training, and all the others.

        Returns:
            ids [B, L + 1] of the events with PAD in the place of the one, and that one, int [B].
        """
        items = events(batch)
        chance = ops.cast(items >= FIRST_ID, "float32")
        if training:
            chance *= keras.random.uniform(ops.shape(items), 0.5, 1.0, seed=self.seed)
        else:
            chance *= ops.arange(1, ops.shape(items)[1] + 1, dtype="float32")  # the newest
        drawn = ops.arange(ops.shape(items)[1])[None] == ops.argmax(chance, axis=1)[:, None]
        return ops.where(drawn, PAD, items), ops.sum(ops.where(drawn, items, 0), axis=1)

    def withheld(self, batch, training=None):
        """Rows that do without a history: cold ones, in training a share of all. bool [B]."""
        cold = batch["is_cold"]
        if not training:
            return cold
        drawn = keras.random.uniform(ops.shape(cold), seed=self.seed)
        return ops.logical_or(cold, drawn < self.config.baseline.withheld)

    def item_loss(self, states, labels, seen):
        """Eq. (14) without the user's other items, mean over the known labels: a scalar.

        A state that is made of items scores them high. As rivals of the label they would teach it
        that popular items are wrong. A warm user's list leaves them out anyway, and for a cold one
        they are right answers too.

        Args:
            states: [B, D]. labels: int [B].
            seen: ids [B, n] of the user's other items; the label among them still counts.
        """
        seen = ops.where(seen == labels[:, None], PAD, seen)
        loss = next_item(ranking.shut_out(self.score(states), seen), labels)
        known = ops.cast(labels >= FIRST_ID, "float32")
        return ops.sum(loss * known) / ops.maximum(ops.sum(known), 1.0)

    def flat_tokens(self, features, training=None):
        """The tokens of all fields in one row, [B, M * D]; in training some fields are masked."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        rate = self.config.finetune.feature_dropout
        masked = None
        if training and rate:
            masked = augment.drop_fields(rows, fields, rate, self.seed)
        return ops.reshape(self.tokens(features, masked), (rows, fields * self.config.model.width))


def events(batch):
    """history and target of every row, [B, L + 1]."""
    return ops.concatenate([batch["history"], batch["target"][:, :1]], axis=1)


def missing(schema, rows):
    """User features of `rows` users of whom nothing is known."""
    return {
        f.name: ops.full((rows, f.numbers), float("nan"), "float32")
        if f.is_numeric
        else ops.full((rows, 1), PAD, "int32")
        for f in schema.features
    }


def mlp(hidden, width, name):
    """One hidden layer: [B, n] -> [B, width]."""
    layers = [Dense(hidden, activation="gelu"), Dense(width)]
    return keras.Sequential(layers, name=name)

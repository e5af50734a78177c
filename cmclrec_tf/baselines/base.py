"""Base class of the baselines of other papers, and the parts that they share."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf import augment
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.losses.next_item import next_item
from cmclrec_tf.models import ranking
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import (
    Batch,
    BoolB,
    Features,
    FloatBD,
    IdsB,
    IdsBL,
    IdsBN,
    KerasConfig,
    Scalar,
    Tensor,
    Users,
)

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.schema import Schema

VALIDATION = ("loss", "loss/warm", "loss/cold")


def check_precision(name: str) -> None:
    """Checks that the models of other papers compute as their papers do.

    Raises:
        InputError: Keras's dtype policy asks for half precision.

    Example:
        >>> check_precision("melu")
    """
    policy = keras.config.dtype_policy()
    if policy.compute_dtype != policy.variable_dtype:
        raise InputError(
            f"{name} under the dtype policy {policy.name!r}",
            "only CMCLRec and the backbones alone train in mixed precision",
            "Set compute.precision=float32, or call keras.config.set_dtype_policy('float32').",
        )


class Baseline(Recommender):
    """A cold-start recommender of another paper.

    It is trained with the settings of `finetune`, `baseline` and `model.width`, validated on warm
    and cold users, and evaluated like every recommender of this package.

    Subclasses set `items`, or override `table`. They implement `user_states` and `losses_of`, and
    `prepare` if something is learned before the fit. The class attribute `losses` names what
    `losses_of` returns in addition to `loss`.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf import baselines
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = baselines.create("deep-music", data.schema, cm.Config.preset("tiny"))
        >>> isinstance(model, Baseline)
        True
    """

    losses: tuple[str, ...] = ()
    has_logits = False  # most papers learn no softmax over the items

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, (*VALIDATION, *self.losses), **kwargs)
        self.seed = keras.random.SeedGenerator(config.seed)
        self.tokens = FeatureTokens(schema.features, config.model.width, name="tokens")

    def prepare(self, dataset: "PreparedDataset") -> None:
        """Learns what the fit starts from; called once, before the fit."""

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        """Returns the user states [B, D].

        The state of a cold row must not depend on the history.
        """
        raise NotImplementedError

    def call(self, batch: Users, training: bool | None = None) -> FloatBD:
        """Returns the user states [B, D] of a batch."""
        is_cold = batch["is_cold"]
        history = ops.where(is_cold[:, None], PAD, batch["history"])
        return self.user_states(history, batch["features"], is_cold, training)

    def warm_states(self, history: IdsBL) -> FloatBD:
        """Returns the states [B, D] of users with a history and without known features."""
        rows = ops.shape(history)[0]
        return self.user_states(
            history, missing_features(self.schema, rows), ops.zeros((rows,), "bool"), training=False
        )

    def cold_states(self, features: Features) -> FloatBD:
        """Returns the states [B, D] of users with features and without a history."""
        rows = ops.shape(next(iter(features.values())))[0]
        history = ops.full((rows, 1), PAD, "int32")
        return self.user_states(history, features, ops.ones((rows,), "bool"), training=False)

    def warm_and_cold_states(self, batch: Users) -> tuple[FloatBD, FloatBD]:
        """Returns the states [B, D] of every user, first as a warm and then as a cold user."""
        rows = ops.shape(batch["history"])[0]
        warm = self.user_states(
            batch["history"], batch["features"], ops.zeros((rows,), "bool"), training=False
        )
        return warm, self.cold_states(batch["features"])

    def build_from_config(self, config: KerasConfig) -> None:
        """Creates all weights by a call with one user, so that saved weights can be loaded."""
        history = ops.full((1, self.config.data.max_history), PAD, "int32")
        is_cold = ops.zeros((1,), "bool")
        features = missing_features(self.schema, 1)
        self({"history": history, "features": features, "is_cold": is_cold})

    def average(self, history: IdsBL) -> FloatBD:
        """Returns the mean embedding [B, D] of a history's known items; 0 if there are none."""
        known = ops.cast(history >= FIRST_ID, "float32")[:, :, None]
        return ops.sum(self.items(history) * known, axis=1) / ops.maximum(ops.sum(known, axis=1), 1)

    def leave_one_out(self, batch: Batch, training: bool | None = None) -> tuple[IdsBN, IdsB]:
        """Removes one item of each user's events: a random one in training, else the newest.

        Returns:
            The events int [B, L + 1] with PAD in place of the item, and the item int [B].
        """
        items = events_of(batch)
        priority = ops.cast(items >= FIRST_ID, "float32")
        if training:
            priority *= keras.random.uniform(ops.shape(items), 0.5, 1.0, seed=self.seed)
        else:
            priority *= ops.arange(1, ops.shape(items)[1] + 1, dtype="float32")
        removed = ops.arange(ops.shape(items)[1])[None] == ops.argmax(priority, axis=1)[:, None]
        return ops.where(removed, PAD, items), ops.sum(ops.where(removed, items, 0), axis=1)

    def withheld_rows(self, batch: Users, training: bool | None = None) -> BoolB:
        """Returns the rows to treat as cold, bool [B]: cold users, in training also some others.

        The share of the others is `baseline.withheld`.
        """
        cold = batch["is_cold"]
        if not training:
            return cold
        chance = keras.random.uniform(ops.shape(cold), seed=self.seed)
        return ops.logical_or(cold, chance < self.config.baseline.withheld)

    def item_loss(self, states: FloatBD, labels: IdsB, seen: IdsBN) -> Scalar:
        """Eq. (14) without the user's other items as negatives, mean over the known labels.

        A state that is made from items gives these items high scores. As negatives they would
        teach the state that popular items are wrong. They are no wrong answers either: a warm
        user's list excludes them, and for a cold user they are relevant.

        Args:
            states: [B, D].
            labels: int [B].
            seen: int [B, n], the user's other items; the label may be among them.
        """
        seen = ops.where(seen == labels[:, None], PAD, seen)
        loss = next_item(ranking.exclude(self.score(states), seen), labels)
        known = ops.cast(labels >= FIRST_ID, "float32")
        return ops.sum(loss * known) / ops.maximum(ops.sum(known), 1.0)

    def flat_tokens(self, features: Features, training: bool | None = None) -> Tensor:
        """Returns the tokens of all features in one row, [B, M * D]; training masks some."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        rate = self.config.finetune.feature_dropout
        masked = None
        if training and rate:
            masked = augment.drop_fields(rows, fields, rate, self.seed)
        return ops.reshape(self.tokens(features, masked), (rows, fields * self.config.model.width))


def events_of(batch: Batch) -> IdsBN:
    """Returns each user's history and first target item, int [B, L + 1].

    Example:
        >>> from keras import ops
        >>> batch = {"history": ops.array([[0, 5, 7]]), "target": ops.array([[9]])}
        >>> events_of(batch).numpy().tolist()
        [[0, 5, 7, 9]]
    """
    return ops.concatenate([batch["history"], batch["target"][:, :1]], axis=1)


def missing_features(schema: "Schema", rows: int | Tensor) -> Features:
    """Returns the user features of users about whom nothing is known.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city"), cm.Feature("age", "numeric")))
        >>> {name: x.numpy().tolist() for name, x in missing_features(schema, 1).items()}
        {'city': [[0]], 'age': [[nan]]}
    """
    return {
        f.name: ops.full((rows, f.numbers), float("nan"), "float32")
        if f.is_numeric
        else ops.full((rows, 1), PAD, "int32")
        for f in schema.features
    }


def mlp(hidden: int, width: int, name: str) -> keras.Sequential:
    """Creates a network with one hidden layer, [B, n] -> [B, width].

    Example:
        >>> from keras import ops
        >>> mlp(hidden=16, width=4, name="mlp")(ops.ones((2, 8))).shape
        TensorShape([2, 4])
    """
    layers = [Dense(hidden, activation="gelu"), Dense(width)]
    return keras.Sequential(layers, name=name)

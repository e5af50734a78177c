"""Base of all recommenders: scores, lists, the loss of Eq. (14) and validation by segment."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf import backbones, replicas
from cmclrec_tf.config import Config
from cmclrec_tf.layers.dense import map_rows
from cmclrec_tf.layers.masking import MASKED_SCORE, newest_positions
from cmclrec_tf.losses.chunked_next_item import chunked_next_item
from cmclrec_tf.losses.next_item import next_item, next_labels
from cmclrec_tf.losses.sampled_next_item import sample_zipf, sampled_next_item
from cmclrec_tf.models import ranking
from cmclrec_tf.models.expert import FeatureExpert
from cmclrec_tf.models.prefix import count_items
from cmclrec_tf.models.prior import PopularityPrior
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import FIRST_ID, PAD, Schema
from cmclrec_tf.types import (
    Batch,
    BoolB,
    BoolBL,
    Features,
    FloatB,
    FloatBD,
    FloatBLD,
    FloatBN,
    FloatBND,
    FloatBV,
    FloatV,
    FloatVD,
    IdsBK,
    IdsBL,
    IdsBN,
    Scalar,
    Tensor,
    TimesBN,
    Users,
)

METRICS = ("ndcg_warm", "ndcg_cold")

# Share of a history's items that a bidirectional backbone has to guess.
HIDDEN_SHARE = 0.2


class Recommender(StagedModel):
    """Scores items by the inner product of a user state with the item embeddings.

    `has_logits` says whether the scores' softmax is learned (Eq. 14): its log is a likelihood.

    Subclasses call `_build`, which sets `items` (the embedding layer) and `backbone`. They
    implement `call(batch)`, `embed(history, hidden, training)`, `warm_states(history)`,
    `cold_states(features)` and `losses_of(batch, training)`.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.
        losses: names of the losses, see `StagedModel`.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> model = cm.PlainRecommender(schema, cm.Config.preset("tiny"))
        >>> isinstance(model, Recommender)
        True
        >>> states = model.warm_states(ops.array([[0, 4, 5]]))
        >>> ops.shape(states), ops.shape(model.score(states))  # D + 2 of the prior, V
        ((1, 18), (1, 6))
    """

    has_logits = True
    prior: PopularityPrior | None = None
    expert: FeatureExpert | None = None  # weighed by the prior; set before `_build`

    def __init__(
        self, schema: Schema, config: Config, losses: tuple[str, ...], **kwargs: Any
    ) -> None:
        super().__init__((*losses, *METRICS), **kwargs)
        self.schema, self.config = schema, config

    def _build(self, items: keras.layers.Embedding, seed: int, length: int) -> None:
        """Sets the parts that all subclasses share; called after a subclass has made its own.

        Args:
            items: the embedding layer.
            seed: seeds all sampling.
            length: the longest sequence that the backbone reads.
        """
        model = self.config.model
        self.items = items
        self.backbone = backbones.create(model.backbone, length, model)
        self.seed = keras.random.SeedGenerator(seed)
        if model.popularity_prior:
            self.prior = PopularityPrior(self.schema.items, self.expert, name="prior")

    def embed(
        self, history: IdsBL, hidden: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Returns the input of the backbone [B, L, D] for histories [B, L].

        Args:
            history: int [B, L].
            hidden: bool [B, L], True where the backbone must not see the item.
            training: as in Keras.
        """
        raise NotImplementedError

    def warm_states(self, history: IdsBL) -> FloatBD:
        """Returns user states [B, D] from histories [B, L] alone."""
        raise NotImplementedError

    def cold_states(self, features: Features) -> FloatBD:
        """Returns user states [B, D] from user features alone."""
        raise NotImplementedError

    def warm_and_cold_states(self, batch: Users) -> tuple[FloatBD, FloatBD]:
        """Returns two states [B, D] of every user: by the warm path and by the cold path."""
        return self.warm_states(batch["history"]), self.cold_states(batch["features"])

    @property
    def table(self) -> FloatVD:
        """The item embeddings [V, D]."""
        return self.items.embeddings

    @property
    def bias(self) -> FloatV:
        """Scores [V] that are added to the inner products: 0, unless a subclass overrides it."""
        return ops.zeros(self.schema.items)

    def with_prior(
        self, g: FloatBD, history: IdsBN | None, features: Features | None = None
    ) -> FloatBD:
        """Returns the embeddings of users: their states, and the weights of the prior, if any.

        Args:
            g: float [B, D], the states.
            history: int [B, N], the histories; None if all are empty.
            features: user features, which the expert reads, if any; None if they are not known.
        """
        if self.prior is None:
            return g
        return self.prior(g, None if history is None else count_items(history), features)

    def state(
        self, history: IdsBN, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        """Returns the states [B, D] of users, without the prior; see `call`."""
        raise NotImplementedError

    def score(self, states: Tensor) -> Tensor:
        """Returns the scores float32 [..., V] of all items; PAD and OOV are never recommended.

        Args:
            states: float [..., D], or the embeddings of `with_prior`.
        """
        return self.without_special(self.products(states))

    def products(self, states: Tensor) -> Tensor:
        """Returns what `score` returns, but for the scores of PAD and OOV, which are unmasked."""
        width = self.table.shape[1]
        states, weights = states[..., :width], states[..., width:]
        table = ops.transpose(ops.cast(self.table, states.dtype))
        scores = ops.cast(map_rows(lambda rows: ops.matmul(rows, table), states), "float32")
        if self.prior is None or not weights.shape[-1]:
            return scores
        return scores + self.prior.scores(weights)

    @property
    def item_variables(self) -> list[Tensor]:
        """Variables whose columns are the item vectors: scores are their products with `call`'s."""
        of_prior = self.prior.item_variables if self.prior else []
        return [variable.value for variable in (self.items.embeddings, *of_prior)]

    def without_special(self, scores: Tensor) -> Tensor:
        """Returns scores [..., V] with `MASKED_SCORE` for PAD and OOV."""
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, MASKED_SCORE)

    def logits(self, batch: Users) -> FloatBV:
        """Returns the scores of all items [B, V] that `recommend` ranks."""
        return self.score(self(batch, training=False))

    def recommend(self, batch: Users, k: int) -> IdsBK:
        """Returns the ids of the K best items [B, K].

        Those of the history are left out, unless the config has `evaluate.seen_items: keep`.
        """
        return ranking.recommend(self.logits(batch), batch, k, self.config.evaluate.hides_history)

    def learned_states(
        self, x: FloatBLD, mask: BoolBL, training: bool | None = None, **times: TimesBN
    ) -> FloatBND:
        """Returns the states that `history_loss` trains: G [B, L, D], or the newest one [B, 1, D].

        Args: those of the backbone.
        """
        if self._learns_every:
            return self.backbone(x, mask, training=training, **times)
        return self.backbone.state(x, mask, training=training, **times)[:, None]

    @property
    def _learns_every(self) -> bool:
        return self.backbone.causal and self.config.model.positions == "every"

    def history_loss(
        self,
        g: FloatBND,
        history: IdsBN,
        target: IdsBN,
        rows: FloatB,
        training: bool | None = None,
    ) -> Scalar:
        """Eq. (14) of users with a history, at the last position or at every one.

        With `positions: every`, a causal backbone predicts the next item at every position. A
        bidirectional one predicts the next item at the last position, and hidden items of the
        history from both sides (cloze).

        Args:
            g: from `learned_states`; one position, or the newest are those of the history.
            history: int [B, N].
            target: int [B, N], the next item first.
            rows: float [B], 1 for rows that count.
            training: as in Keras.
        """
        labels = next_labels(history, target)
        if not self._learns_every:
            labels = labels[:, -1:]
        loss = self._mean_loss(newest_positions(g, ops.shape(labels)[1]), labels, rows, training)
        if self.config.model.positions == "every" and not self.backbone.causal:
            loss += self._cloze_loss(history, rows, training)
        return loss

    def _cloze_loss(self, history: IdsBN, rows: FloatB, training: bool | None) -> Scalar:
        selected = replicas.uniform(ops.shape(history), self.seed) < HIDDEN_SHARE
        hidden = ops.logical_and(selected, history != PAD)
        x = self.embed(history, hidden, training)
        states = self.backbone.cloze(x, history != PAD, training=training)
        return self._mean_loss(states, ops.where(hidden, history, PAD), rows, training)

    def _mean_loss(
        self, states: FloatBND, labels: IdsBN, rows: FloatB, training: bool | None
    ) -> Scalar:
        """Eq. (14), mean over the known labels of rows that count, times the share of these rows.

        Args:
            states: float [B, N, D].
            labels: int [B, N]; an id below FIRST_ID is nothing to learn.
            rows: float [B], 1 for rows that count.
            training: as in Keras.
        """
        known = ops.cast(labels >= FIRST_ID, "float32") * rows[:, None]
        count = ops.maximum(replicas.total(ops.sum(known)), 1.0)
        share = replicas.total(replicas.mean(rows))
        return self._summed_loss(states, labels, known, training) / count * share

    def _summed_loss(
        self, states: FloatBND, labels: IdsBN, known: FloatBN, training: bool | None
    ) -> Scalar:
        settings = self.config.finetune
        if settings.softmax == "full" or not training:
            return ops.sum(next_item(self.score(states), labels) * known)
        states, labels, known = (
            ops.reshape(x, (-1, *x.shape[2:])) for x in (states, labels, known)
        )
        if not self.jit_compile:
            # Score only the positions that count: padding then costs nothing. XLA would pad the
            # result of `nonzero` to all positions.
            at = ops.nonzero(known)[0]
            states, labels, known = (ops.take(x, at, axis=0) for x in (states, labels, known))
        inputs = (states, self.table, self.bias, labels, known)
        if settings.softmax == "chunked":
            return chunked_next_item(*inputs)
        negatives = sample_zipf(settings.negatives, self.schema.items, self.seed)
        return sampled_next_item(*inputs, *negatives)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        metrics = super().test_step(data)
        # The geometric mean: a tenth more for one segment makes up for a tenth less for the other,
        # however far apart the two are.
        return {**metrics, "ndcg": ops.sqrt(metrics["ndcg_warm"] * metrics["ndcg_cold"])}

    def validation_of(self, batch: Batch) -> dict[str, Tensor]:
        """Returns NDCG@K and loss of every user, with the history and without it."""
        target, history = batch["target"][:, 0], batch["history"]
        warm, cold = self.warm_and_cold_states(batch)
        nothing = ops.zeros_like(history)
        hidden = history if self.config.evaluate.hides_history else nothing
        segments = {"warm": (warm, hidden), "cold": (cold, nothing)}
        values = {}
        for segment, (states, excluded) in segments.items():
            scores = self.score(states)
            values[f"loss/{segment}"] = next_item(scores, target)
            scores = ranking.exclude(scores, excluded)
            ndcg = ranking.single_item_ndcg(scores, target, self.config.evaluate.k)
            values[f"ndcg_{segment}"] = ndcg
        values["loss"] = (values["loss/warm"] + values["loss/cold"]) / 2
        return values

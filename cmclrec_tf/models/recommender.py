"""What every recommender of this package shares: scores, lists, Eq. (14), validation by segment."""

import keras
from keras import ops

from cmclrec_tf import backbones, replicas
from cmclrec_tf.layers.dense import map_rows
from cmclrec_tf.layers.masking import MASKED_SCORE, newest_positions
from cmclrec_tf.losses.next_item import chunked_next_item, next_item, sample_zipf, sampled_next_item
from cmclrec_tf.models import ranking
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import FIRST_ID, PAD

METRICS = ("ndcg_warm", "ndcg_cold")

# Share of a history's items that a bidirectional backbone has to guess.
HIDDEN_SHARE = 0.2


class Recommender(StagedModel):
    """Scores items by the inner product of a user state with the item embeddings.

    Subclasses call `_build`, which sets `items` (the embedding layer) and `backbone`, and implement
    `call(batch)`, `embed(history, hidden, training)`, `warm_states(history)`,
    `cold_states(features)` and `losses_of`.

    Args:
        schema, config: of the model.
        losses: names of the losses, see `StagedModel`.
    """

    def __init__(self, schema, config, losses, **kwargs):
        super().__init__((*losses, *METRICS), **kwargs)
        self.schema, self.config = schema, config

    def _build(self, items, seed):
        """Sets the parts that all have; called when the subclass has made its own."""
        config = self.config
        self.items = items
        length = config.data.max_history
        self.backbone = backbones.create(config.model.backbone, length, config.model)
        self.seed = keras.random.SeedGenerator(seed)

    @property
    def table(self):
        """The item embeddings [V, D]."""
        return self.items.embeddings

    @property
    def bias(self):
        """Scores [V] that are added to the inner products: 0, unless a subclass overrides it."""
        return ops.zeros(self.schema.items)

    def score(self, states):
        """states [..., D] -> scores of all items [..., V]; PAD and OOV are never recommended."""
        table = ops.transpose(ops.cast(self.table, states.dtype))
        scores = ops.cast(map_rows(lambda rows: ops.matmul(rows, table), states), "float32")
        return self.without_special(scores)

    def without_special(self, scores):
        """scores [..., V] with those of PAD and OOV very low."""
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, MASKED_SCORE)

    def recommend(self, batch, k):
        """batch -> ids of the K best items [B, K], those of the history left out."""
        return ranking.recommended(self.score(self(batch, training=False)), batch, k)

    def warm_and_cold_states(self, batch):
        """The states [B, D] of every user as a warm one, and as a cold one."""
        return self.warm_states(batch["history"]), self.cold_states(batch["features"])

    def learned_states(self, x, mask, training=None):
        """G at the positions that `history_loss` learns from: all, or the newest one [B, 1, D].

        Args:
            x: [B, L, D], embedded histories. mask: bool [B, L].
        """
        if self._learns_every:
            return self.backbone(x, mask, training=training)
        return self.backbone.state(x, mask, training=training)[:, None]

    @property
    def _learns_every(self):
        return self.backbone.causal and self.config.model.positions == "every"

    def history_loss(self, g, history, target, rows, training=None):
        """Eq. (14) of users with a history, on the last position or on every one.

        A causal backbone tells the next item at every position; a bidirectional one tells the next
        item at the last position, and hidden items of the history from both sides.

        Args:
            g: from `learned_states`; its newest positions are those of the history, or one.
            history: int [B, n]. target: int [B, m].
            rows: float [B], 1 for rows that count.
        """
        labels = next_labels(history, target)
        if not self._learns_every:
            labels = labels[:, -1:]
        loss = self._mean_loss(newest_positions(g, ops.shape(labels)[1]), labels, rows, training)
        if self.config.model.positions == "every" and not self.backbone.causal:
            loss += self._cloze_loss(history, rows, training)
        return loss

    def _cloze_loss(self, history, rows, training):
        drawn = replicas.uniform(ops.shape(history), self.seed) < HIDDEN_SHARE
        hidden = ops.logical_and(drawn, history != PAD)
        x = self.embed(history, hidden, training)
        states = self.backbone.cloze(x, history != PAD, training=training)
        return self._mean_loss(states, ops.where(hidden, history, PAD), rows, training)

    def _mean_loss(self, states, labels, rows, training):
        """Eq. (14), mean over the known labels of the rows that count, times the rows' share.

        Args:
            states: [B, n, D]. labels: int [B, n]; below FIRST_ID there is nothing to learn.
            rows: float [B].
        """
        known = ops.cast(labels >= FIRST_ID, "float32") * rows[:, None]
        count = ops.maximum(replicas.total(ops.sum(known)), 1.0)
        share = replicas.total(replicas.mean(rows))
        return self._summed_loss(states, labels, known, training) / count * share

    def _summed_loss(self, states, labels, known, training):
        settings = self.config.finetune
        if settings.softmax == "full" or not training:
            return ops.sum(next_item(self.score(states), labels) * known)
        # Padding costs nothing: only the positions that count are scored.
        at = ops.nonzero(ops.reshape(known, (-1,)))[0]
        flat = lambda x: ops.take(ops.reshape(x, (-1, *x.shape[2:])), at, axis=0)
        found = (flat(states), self.table, self.bias, flat(labels), flat(known))
        if settings.softmax == "chunked":
            return chunked_next_item(*found)
        return sampled_next_item(
            *found, *sample_zipf(settings.negatives, self.schema.items, self.seed)
        )

    def test_step(self, data):
        found = super().test_step(data)
        # The geometric mean: a tenth more for one segment makes up for a tenth less for the other,
        # however far apart the two are.
        return {**found, "ndcg": ops.sqrt(found["ndcg_warm"] * found["ndcg_cold"])}

    def validation_of(self, batch):
        """NDCG and loss of every validation user, asked once with the history and once without."""
        target, history = batch["target"][:, 0], batch["history"]
        warm, cold = self.warm_and_cold_states(batch)
        asked = {"warm": (warm, history), "cold": (cold, ops.zeros_like(history))}
        values = {}
        for segment, (states, seen) in asked.items():
            scores = self.score(states)
            values[f"loss/{segment}"] = next_item(scores, target)
            scores = ranking.shut_out(scores, seen)
            values[f"ndcg_{segment}"] = ranking.ndcg_of_one(scores, target, self.config.evaluate.k)
        values["loss"] = (values["loss/warm"] + values["loss/cold"]) / 2
        return values


def next_labels(history, target):
    """The next item of every position: the history shifted by one, then the target [B, L]."""
    target = target[:, :1]
    shifted = ops.concatenate([history[:, 1:], target], axis=1)
    # A padded position predicts nothing, not even the first real item.
    real = ops.concatenate([history[:, :-1] != PAD, ops.ones_like(target, dtype="bool")], axis=1)
    return ops.where(real, shifted, PAD)

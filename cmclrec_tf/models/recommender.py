"""What every recommender of this package shares: scores, lists, Eq. (14), validation by segment."""

import keras
from keras import ops

from cmclrec_tf.losses.next_item import chunked_next_item, next_item, sampled_next_item, zipf
from cmclrec_tf.models import ranking
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import FIRST_ID, PAD

METRICS = ("ndcg_warm", "ndcg_cold", "ndcg")


class Recommender(StagedModel):
    """Scores items by the inner product of a user state with the item embeddings.

    Subclasses have `schema` and `config`, set `items` (the embedding layer) and implement
    `call(batch)`, `warm_states(history)`, `cold_states(features)` and `losses_of`.

    Args:
        names: of the losses, see `StagedModel`.
    """

    def __init__(self, names, **kwargs):
        super().__init__((*names, *METRICS), **kwargs)

    @property
    def table(self):
        """The item embeddings [V, D]."""
        return self.items.embeddings

    def build_bias(self):
        """A learned score per item, its popularity whatever the user."""
        self.item_bias = self.add_weight(
            shape=(self.schema.items,), initializer="zeros", name="item_bias"
        )

    def score(self, states):
        """states [..., D] -> scores of all items [..., V]; PAD and OOV are never recommended."""
        table = ops.cast(self.table, states.dtype)
        scores = ops.cast(ops.matmul(states, ops.transpose(table)), "float32") + self.item_bias
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, -1e9)

    def recommend(self, batch, k):
        """batch -> ids of the K best items [B, K], those of the history left out."""
        scores = self.score(self(batch, training=False))
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        return ranking.top_k(ranking.shut_out(scores, history), k)[1]

    def mean_loss(self, states, labels, rows, training=None):
        """Eq. (14), mean over the known labels of the rows that count, times the rows' share.

        Args:
            states: [B, n, D]. labels: int [B, n]; below FIRST_ID there is nothing to learn.
            rows: float [B], 1 for rows that count.
        """
        known = ops.cast(labels >= FIRST_ID, "float32") * rows[:, None]
        count = ops.maximum(ops.sum(known), 1.0)
        return self._summed_loss(states, labels, known, training) / count * ops.mean(rows)

    def _summed_loss(self, states, labels, known, training):
        kind = self.config.finetune.softmax
        if kind == "full" or not training:
            return ops.sum(next_item(self.score(states), labels) * known)
        # Padding costs nothing: only the positions that count are scored.
        at = ops.nonzero(ops.reshape(known, (-1,)))[0]
        flat = lambda x: ops.take(ops.reshape(x, (-1, *x.shape[2:])), at, axis=0)
        found = (flat(states), self.table, self.item_bias, flat(labels), flat(known))
        if kind == "chunked":
            return chunked_next_item(*found)
        negatives, log_q = zipf(self.config.finetune.negatives, self.schema.items, self.seed)
        return sampled_next_item(*found, negatives, log_q)

    def test_metrics(self, batch):
        """NDCG of every validation user, asked once with the history and once without."""
        target, history = batch["target"][:, 0], batch["history"]
        asked = {
            "warm": (self.warm_states(history), history),
            "cold": (self.cold_states(batch["features"]), ops.zeros_like(history)),
        }
        values = {}
        for segment, (states, seen) in asked.items():
            scores = ranking.shut_out(self.score(states), seen)
            values[f"ndcg_{segment}"] = ranking.ndcg_of_one(scores, target, self.config.evaluate.k)
        values["ndcg"] = (values["ndcg_warm"] + values["ndcg_cold"]) / 2
        return values


def next_labels(batch):
    """The next item of every position: the history shifted by one, then the target [B, L]."""
    shifted = ops.concatenate([batch["history"][:, 1:], batch["target"][:, :1]], axis=1)
    # A padded position predicts nothing, not even the first real item.
    last = ops.concatenate(
        [batch["history"][:, :-1] != PAD, ops.ones_like(batch["target"][:, :1], dtype="bool")],
        axis=1,
    )
    return ops.where(last, shifted, PAD)

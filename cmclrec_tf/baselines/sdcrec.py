"""SDCRec (Du et al., SIGIR 2022): represents a user by similar users, weighted by the item."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.factors import LearnedItemsBaseline
from cmclrec_tf.baselines.meta import sampled_loss
from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.info_nce import info_nce
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.schema import FIRST_ID, PAD
from cmclrec_tf.types import (
    Batch,
    BoolB,
    Features,
    FloatBN,
    FloatBV,
    FloatND,
    IdsBL,
    KeysB,
    Losses,
    Tensor,
)

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class SDCRec(LearnedItemsBaseline):
    """Socially-aware dual contrastive learning, on a graph of users with similar features.

    The representation of a user depends on the item:

        score(u, i) = sum_k softmax_k(n_k W v_i / sqrt(D)) n_k . v_i

    n_k are the preference vectors of the neighbours, and of the user if there is a history. They
    are not trained. A cold user is thus represented like a warm one, by neighbours. There are two
    contrasts: a user's item against sampled items; and an item v_i against items of other users,
    where another item v_j of the same user is the positive:

        loss = (1 - lambda) L_user-item + lambda InfoNCE(v_i, v_j)

    Differences from the paper: no dataset here has friends, so the neighbours are the train users
    with the most similar features. The full text was not available: this follows its abstract and
    the description in the CMCLRec paper; the details are our choice.

    Source: Du et al., Socially-aware Dual Contrastive Learning for Cold-Start Recommendation,
    SIGIR 2022.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = SDCRec(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/items", "loss/contrast")

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        settings, width = self.config.baseline, self.config.model.width
        self.graph = Neighbours(
            schema.features,
            settings.graph_users,
            self.config.data.max_history + 1,
            settings.neighbours,
            name="graph",
        )
        self.relation = Dense(width, use_bias=False, name="relation")
        self.relation.build((None, width))

    def prepare(self, dataset: "PreparedDataset") -> None:
        super().prepare(dataset)
        self.graph.learn(dataset, self.config.seed)

    def user_states(
        self,
        history: IdsBL,
        features: Features,
        is_cold: BoolB | None,
        training: bool | None = None,
        keys: KeysB | None = None,
    ) -> Tensor:
        """Returns states [B, (K + 1) (D + 1)]: vectors of user and neighbours, and which exist.

        Args:
            history, features, is_cold, training: see `Baseline`.
            keys: int64 [B], keys of the users, so that they are not their own neighbours.
        """
        width, most = self.config.model.width, self.config.baseline.neighbours
        _, items = self.graph(features, keys)  # [B, K, n]
        neighbours = self.preferences(ops.reshape(items, (-1, items.shape[2])))
        neighbours = ops.reshape(neighbours, (-1, most, width))
        vectors = ops.concatenate([self.preferences(history)[:, None], neighbours], axis=1)
        exists = ops.concatenate(
            [ops.any(history >= FIRST_ID, 1)[:, None], ops.any(items >= FIRST_ID, 2)], axis=1
        )
        state = ops.concatenate([vectors, ops.cast(exists, vectors.dtype)[:, :, None]], axis=2)
        return ops.reshape(state, (-1, (most + 1) * (width + 1)))

    def score(self, states: Tensor) -> FloatBV:
        """Returns the scores [B, V] of all items."""
        return self.without_special(self._scores(states, ops.convert_to_tensor(self.table)))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        settings = self.config.baseline
        context, positive = self.leave_one_out(batch, training)
        # Cold users, and some others in training, are represented by their neighbours alone.
        hidden = self.withheld_rows(batch, training)[:, None]
        states = self.user_states(
            ops.where(hidden, PAD, context), batch["features"], None, training, batch["user_key"]
        )
        ids, log_q = sample_zipf(settings.negatives, self.schema.items, self.seed)
        rows = ops.shape(positive)[0]
        scores = self._scores(states, self.items(ops.concatenate([positive, ids])))
        item_scores, negative_scores = ops.diagonal(scores[:, :rows])[:, None], scores[:, rows:]
        items = ops.mean(
            sampled_loss(item_scores, negative_scores, positive[:, None], ids, log_q, context)
        )
        others: Batch = {**batch, "history": context[:, :-1], "target": context[:, -1:]}
        _, other = self.leave_one_out(others)
        contrast = info_nce(self.items(positive), self.items(other), settings.temperature, positive)
        total = (1 - settings.contrast) * items + settings.contrast * contrast
        return {"loss/items": items, "loss/contrast": contrast, "loss": total}

    def _scores(self, states: Tensor, v: FloatND) -> FloatBN:
        """Returns the scores [B, n] of item vectors v [n, D]."""
        width = self.config.model.width
        parts = ops.reshape(states, (ops.shape(states)[0], -1, width + 1))
        vectors, exists = parts[:, :, :width], parts[:, :, width:]
        match = ops.matmul(self.relation(vectors), ops.transpose(v)) / width**0.5
        share = ops.softmax(ops.where(exists > 0, match, MASKED_SCORE), axis=1)  # [B, K + 1, n]
        return ops.sum(share * ops.matmul(vectors, ops.transpose(v)), axis=1)

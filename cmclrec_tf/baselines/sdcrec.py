"""SDCRec: a user is what neighbours are for the item that is asked about."""

import keras
from keras import ops

from cmclrec_tf.baselines.factors import LearnedItemsBaseline
from cmclrec_tf.baselines.meta import log_loss
from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.info_nce import info_nce
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.schema import FIRST_ID, PAD


@keras.saving.register_keras_serializable("cmclrec_tf")
class SDCRec(LearnedItemsBaseline):
    """Socially-aware dual contrastive learning, on a graph of users with similar features.

    The embedding of a user depends on the item in question: with vectors n_k of the neighbours,
    and, of a user with a history, of the user too,

        score(u, i) = sum_k softmax_k(n_k W v_i / sqrt(D)) n_k . v_i

    and n is the preference vector of a user's items, which does not learn. So a cold user is
    modelled as a warm one, by neighbours. The two contrasts: a user's item against sampled ones,
    and an item against the items of other users, with another item of the same user as its
    positive,

        loss = (1 - lambda) L_user-item + lambda InfoNCE(v_i, v_j).

    No data set here has friends: the neighbours are the train users of the most similar features.
    Built by the paper's abstract and its reading in the CMCLRec paper; details are ours.

    Source: Du et al., Socially-aware Dual Contrastive Learning for Cold-Start Recommendation,
    SIGIR 2022.
    """

    losses = ("loss/items", "loss/contrast")

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        own, width = self.config.baseline, self.config.model.width
        self.graph = Neighbours(
            schema.features,
            own.graph_users,
            self.config.data.max_history + 1,
            own.neighbours,
            name="graph",
        )
        self.relation = Dense(width, use_bias=False, name="relation")
        self.relation.build((None, width))

    def prepare(self, dataset) -> None:
        super().prepare(dataset)
        self.graph.learn(dataset, self.config.seed)

    def user_states(self, history, features, is_cold, training=None, keys=None):
        """A state is the vectors of user and neighbours and which are there: [B, (K + 1) (D + 1)].

        Args: see `Baseline`; keys: of the users, who are no neighbours of their own.
        """
        width, most = self.config.model.width, self.config.baseline.neighbours
        _, items = self.graph(features, keys)  # [B, K, n]
        around = self.preferences(ops.reshape(items, (-1, items.shape[2])))
        around = ops.reshape(around, (-1, most, width))
        vectors = ops.concatenate([self.preferences(history)[:, None], around], axis=1)
        there = ops.concatenate(
            [ops.any(history >= FIRST_ID, 1)[:, None], ops.any(items >= FIRST_ID, 2)], axis=1
        )
        state = ops.concatenate([vectors, ops.cast(there, vectors.dtype)[:, :, None]], axis=2)
        return ops.reshape(state, (-1, (most + 1) * (width + 1)))

    def score(self, states):
        return self.without_special(self._scores(states, ops.convert_to_tensor(self.table)))

    def losses_of(self, batch, training=None):
        settings = self.config.baseline
        context, positive = self.left_out(batch, training)
        # Some users do without their own history, as all cold ones.
        hidden = self.withheld(batch, training)[:, None]
        states = self.user_states(
            ops.where(hidden, PAD, context), batch["features"], None, training, batch["user_key"]
        )
        ids, log_q = sample_zipf(settings.negatives, self.schema.items, self.seed)
        rows = ops.shape(positive)[0]
        scores = self._scores(states, self.items(ops.concatenate([positive, ids])))
        own, others = ops.diagonal(scores[:, :rows])[:, None], scores[:, rows:]
        items = ops.mean(log_loss(own, others, positive[:, None], ids, log_q, context))
        _, other = self.left_out({**batch, "history": context[:, :-1], "target": context[:, -1:]})
        contrast = info_nce(self.items(positive), self.items(other), settings.temperature, positive)
        total = (1 - settings.contrast) * items + settings.contrast * contrast
        return {"loss/items": items, "loss/contrast": contrast, "loss": total}

    def _scores(self, states, v):
        """States [B, S], item vectors [n, D] -> scores [B, n]."""
        width = self.config.model.width
        parts = ops.reshape(states, (ops.shape(states)[0], -1, width + 1))
        vectors, there = parts[:, :, :width], parts[:, :, width:]
        match = ops.matmul(self.relation(vectors), ops.transpose(v)) / width**0.5
        share = ops.softmax(ops.where(there > 0, match, MASKED_SCORE), axis=1)  # [B, K + 1, n]
        return ops.sum(share * ops.matmul(vectors, ops.transpose(v)), axis=1)

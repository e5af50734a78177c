"""MetaTL: what leads a user from one item to the next, adapted by gradient steps."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import adapted, log_loss, spread
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.schema import FIRST_ID


@keras.saving.register_keras_serializable("cmclrec_tf")
class MetaTL(Baseline):
    """score(u, i -> j) = -|v_i + t_u - v_j|^2 / 2, a translation t_u of the user's own.

    t_u is the mean over the transitions (i, j) of the history of a network on (v_i, v_j), and is
    adapted to them, t'_u = t_u - alpha grad_t L(t_u; transitions of u). The loss of t'_u on the
    next transition (query) trains the network and the item embeddings through the adaptation.

    The paper's new users have a few events. Of a user without any, the features give t_u, and a
    learned vector stands for the item before; both states of a train user are trained. The paper's
    loss is a margin against one sampled item; here items are ranked among several.

    Source: Wang, Ding and Caverlee, Sequential Recommendation for Cold-start Users with Meta
    Transitional Learning, SIGIR 2021, section 3.
    """

    losses = ("loss/query",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.items = item_embedding(schema, width)
        self.transition = mlp(hidden, width, "transition")
        self.transition.build((None, None, 2 * width))
        self.without = mlp(hidden, width, "without")
        self.start = self.add_weight(shape=(width,), initializer="zeros", name="start")

    @property
    def bias(self):
        """-|v_j|^2 / 2: with it, an inner product ranks as a distance does."""
        return -ops.sum(ops.square(self.table), axis=1) / 2

    def score(self, states):
        """states v_i + t_u [B, D] -> scores of all items [B, V], up to a term of the user's."""
        return self.without_special(ops.matmul(states, ops.transpose(self.table)) + self.bias)

    def user_states(self, history, features, is_cold, training=None):
        negatives = spread(self.config.baseline.negatives, self.schema.items)
        warm = self._warm(history, features, negatives, training)
        return ops.where(is_cold[:, None], self._cold(features, training), warm)

    def losses_of(self, batch, training=None):
        history, features = batch["history"], batch["features"]
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        warm = self._warm(history, features, negatives, training)
        both = ops.concatenate([warm, self._cold(features, training)])
        target = batch["target"][:, 0]
        loss = self.item_loss(both, *(ops.concatenate([x, x]) for x in (target, history)))
        return {"loss/query": loss, "loss": loss}

    def _cold(self, features, training):
        return self.start + self.without(self.flat_tokens(features, training))

    def _warm(self, history, features, negatives, training):
        """v_i + t'_u of the last item: [B, D]."""
        known = ops.cast(history >= FIRST_ID, "float32")
        v = self.items(history)
        # A transition counts when both of its items are known.
        both = (known[:, :-1] * known[:, 1:])[:, :, None]
        pairs = self.transition(ops.concatenate([v[:, :-1], v[:, 1:]], axis=2)) * both
        count = ops.sum(both, axis=1)
        t = ops.where(
            count > 0,
            ops.sum(pairs, axis=1) / ops.maximum(count, 1.0),
            self.without(self.flat_tokens(features, training)),
        )
        last = ops.where(known[:, -1:] > 0, v[:, -1], self.start)
        return last + self._adapted(t, v, history, known, negatives)

    def _adapted(self, t, v, history, known, negatives):
        """Gradient steps of t [B, D] on the transitions of the history."""
        ids = negatives[0]
        noise, bias = self.items(ids), self.bias
        following = ops.where(known[:, :-1] > 0, history[:, 1:], 0)

        def loss_of(values):
            x = v[:, :-1] + values[0][:, None]  # [B, n, D]
            own = ops.sum(x * v[:, 1:], axis=2) + ops.take(bias, following)
            others = ops.matmul(x, ops.transpose(noise)) + ops.take(bias, ids)
            return log_loss(own, others, following, *negatives)

        settings = self.config.baseline
        return adapted([t], loss_of, settings.inner_steps, settings.inner_rate)[0]

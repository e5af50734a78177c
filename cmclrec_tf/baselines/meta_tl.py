"""MetaTL (Wang et al., SIGIR 2021): learns each user's translation from one item to the next."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import Negatives, adapt, sampled_loss, spread_negatives
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.types import (
    Batch,
    BoolB,
    Features,
    FloatB,
    FloatBD,
    FloatBLD,
    FloatBV,
    FloatV,
    IdsBL,
    Losses,
    Tensor,
)

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class MetaTL(Baseline):
    """score(u, i -> j) = -|v_i + t_u - v_j|^2 / 2, with a translation t_u of each user.

    t_u is the mean of a network on (v_i, v_j) over the transitions (i, j) of the history. Gradient
    steps adapt it to them: t'_u = t_u - alpha grad_t L(t_u; transitions of u). The loss of t'_u on
    the next transition (query) trains the network and the item embeddings through the adaptation.

    Differences from the paper: its new users have a few events. Here, for a user without events,
    the features give t_u and a learned vector replaces the previous item; both states of a train
    user are trained. The paper's loss is a margin against one sampled item; here items are ranked
    among several.

    Source: Wang, Ding and Caverlee, Sequential Recommendation for Cold-start Users with Meta
    Transitional Learning, SIGIR 2021, section 3.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = MetaTL(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/query",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.items = item_embedding(schema, width)
        self.transition = mlp(hidden, width, "transition")
        self.transition.build((None, None, 2 * width))
        self.without = mlp(hidden, width, "without")
        self.start = self.add_weight(shape=(width,), initializer="zeros", name="start")

    @property
    def bias(self) -> FloatV:
        """-|v_j|^2 / 2: with this bias, inner products rank items as distances do."""
        return -ops.sum(ops.square(self.table), axis=1) / 2

    def score(self, states: FloatBD) -> FloatBV:
        """Returns the scores [B, V] for states v_i + t_u [B, D], up to a constant per user."""
        return self.without_special(ops.matmul(states, ops.transpose(self.table)) + self.bias)

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        negatives = spread_negatives(self.config.baseline.negatives, self.schema.items)
        warm = self._warm(history, features, negatives, training)
        return ops.where(is_cold[:, None], self._cold(features, training), warm)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        history, features = batch["history"], batch["features"]
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        warm = self._warm(history, features, negatives, training)
        both = ops.concatenate([warm, self._cold(features, training)])
        target = batch["target"][:, 0]
        loss = self.item_loss(both, *(ops.concatenate([x, x]) for x in (target, history)))
        return {"loss/query": loss, "loss": loss}

    def _cold(self, features: Features, training: bool | None) -> FloatBD:
        return self.start + self.without(self.flat_tokens(features, training))

    def _warm(
        self, history: IdsBL, features: Features, negatives: Negatives, training: bool | None
    ) -> FloatBD:
        """Returns v_i + t'_u for the last item i, [B, D]."""
        known = ops.cast(history >= FIRST_ID, "float32")
        v = self.items(history)
        # A transition counts if both of its items are known.
        both = (known[:, :-1] * known[:, 1:])[:, :, None]
        pairs = self.transition(ops.concatenate([v[:, :-1], v[:, 1:]], axis=2)) * both
        count = ops.sum(both, axis=1)
        t = ops.where(
            count > 0,
            ops.sum(pairs, axis=1) / ops.maximum(count, 1.0),
            self.without(self.flat_tokens(features, training)),
        )
        last = ops.where(known[:, -1:] > 0, v[:, -1], self.start)
        return last + self._adapt(t, v, history, known, negatives)

    def _adapt(
        self, t: FloatBD, v: FloatBLD, history: IdsBL, known: Tensor, negatives: Negatives
    ) -> FloatBD:
        """Adapts translations t [B, D] by gradient steps on the transitions of the history."""
        ids = negatives[0]
        noise, bias = self.items(ids), self.bias
        following = ops.where(known[:, :-1] > 0, history[:, 1:], 0)

        def loss_of(values: list[Tensor]) -> FloatB:
            x = v[:, :-1] + values[0][:, None]  # [B, n, D]
            scores = ops.sum(x * v[:, 1:], axis=2) + ops.take(bias, following)
            noise_scores = ops.matmul(x, ops.transpose(noise)) + ops.take(bias, ids)
            return sampled_loss(scores, noise_scores, following, *negatives)

        settings = self.config.baseline
        return adapt([t], loss_of, settings.inner_steps, settings.inner_rate)[0]

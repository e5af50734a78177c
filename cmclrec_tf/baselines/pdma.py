"""PDMA (Wang et al., SIGIR 2023): common preferences from features, novel ones from history."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf import augment
from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import adapt_states, spread_negatives
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, Losses

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class PDMA(Baseline):
    """Decouples a preference into a common and a novel part: state_u = common(x_u) + novel_u.

    common(x) = sum_k softmax_k(f(x) . key_k) value_k mixes patterns that many users share, and is
    not adapted. novel_u starts at 0; gradient steps adapt it to what the history adds:

        novel_u = -alpha grad_novel L(common(x_u) + novel; history of u)   (one step or more)

    Both are trained by the loss on another item of the user. So that the model does not memorise
    users by their features (meta-augmentation), some features of a train user are replaced by those
    of another user of the batch. A user without events has the common part alone.

    Difference from the paper: its full text was not available. This follows its abstract and the
    description in the CMCLRec paper; the details are our choice.

    Source: Wang et al., A Preference Learning Decoupling Framework for User Cold-Start
    Recommendation, SIGIR 2023.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = PDMA(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/query",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        width, patterns = self.config.model.width, self.config.baseline.patterns
        self.items = item_embedding(schema, width)
        self.match = mlp(self.config.baseline.hidden, patterns, "match")
        self.patterns = Dense(width, use_bias=False, name="patterns")

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        common = self._common(features, training)
        negatives = spread_negatives(self.config.baseline.negatives, self.schema.items)
        both, _ = adapt_states(common, self.items, history, negatives, self.config.baseline)
        return ops.where(is_cold[:, None], common, both)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        context, positive = self.leave_one_out(batch, training)
        features = self._exchange_fields(batch["features"]) if training else batch["features"]
        common = self._common(features, training)
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        both, _ = adapt_states(common, self.items, context, negatives, self.config.baseline)
        # Cold users have no novel part, so both states are trained.
        states = ops.concatenate([common, both])
        loss = self.item_loss(states, *(ops.concatenate([x, x]) for x in (positive, context)))
        return {"loss/query": loss, "loss": loss}

    def _common(self, features: Features, training: bool | None) -> FloatBD:
        match = self.match(self.flat_tokens(features, training))
        return self.patterns(ops.softmax(match, axis=-1))

    def _exchange_fields(self, features: Features) -> Features:
        """Replaces some features of every user by those of another user of the batch."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(features)
        rate = self.config.baseline.exchanged
        exchanged = augment.drop_fields(rows, fields, rate, self.seed)
        return {
            name: ops.where(exchanged[:, i, None], ops.roll(value, 1, axis=0), value)
            for i, (name, value) in enumerate(features.items())
        }

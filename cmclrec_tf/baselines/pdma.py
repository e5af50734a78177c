"""PDMA: common preferences transferred by features, novel ones adapted to by gradient steps."""

import keras
from keras import ops

from cmclrec_tf import augment
from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import spread, stepped
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding


@keras.saving.register_keras_serializable("cmclrec_tf")
class PDMA(Baseline):
    """Preference learning decoupled: state_u = common(x_u) + novel_u.

    common(x) = sum_k softmax_k(f(x) . key_k) value_k mixes patterns that many users share, without
    adaptation. novel_u starts at 0 and is adapted to what the history has beside them,

        novel_u = -alpha grad_novel L(common(x_u) + novel; history of u)   (a step or more)

    and both are trained by the loss on another item of the user. Against the memorising of users
    by their attributes (meta-augmentation), some fields of a train user are those of another user
    of the batch: the same attributes then stand for several preferences. A user without events
    has the common part alone.

    Built by the paper's abstract and its reading in the CMCLRec paper; details are ours.

    Source: Wang et al., A Preference Learning Decoupling Framework for User Cold-Start
    Recommendation, SIGIR 2023.
    """

    losses = ("loss/query",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        width, patterns = self.config.model.width, self.config.baseline.patterns
        self.items = item_embedding(schema, width)
        self.match = mlp(self.config.baseline.hidden, patterns, "match")
        self.patterns = Dense(width, use_bias=False, name="patterns")

    def user_states(self, history, features, is_cold, training=None):
        common = self._common(features, training)
        negatives = spread(self.config.baseline.negatives, self.schema.items)
        both, _ = stepped(common, self.items, history, negatives, self.config.baseline)
        return ops.where(is_cold[:, None], common, both)

    def losses_of(self, batch, training=None):
        context, positive = self.left_out(batch, training)
        features = self._augmented(batch["features"]) if training else batch["features"]
        common = self._common(features, training)
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        both, _ = stepped(common, self.items, context, negatives, self.config.baseline)
        # Cold users have no novel part: both states are trained.
        states = ops.concatenate([common, both])
        loss = self.item_loss(states, *(ops.concatenate([x, x]) for x in (positive, context)))
        return {"loss/query": loss, "loss": loss}

    def _common(self, features, training):
        matched = self.match(self.flat_tokens(features, training))
        return self.patterns(ops.softmax(matched, axis=-1))

    def _augmented(self, features):
        """Some fields of every user are those of another one of the batch."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(features)
        rate = self.config.baseline.exchanged
        exchanged = augment.drop_fields(rows, fields, rate, self.seed)
        return {
            name: ops.where(exchanged[:, at, None], ops.roll(value, 1, axis=0), value)
            for at, (name, value) in enumerate(features.items())
        }

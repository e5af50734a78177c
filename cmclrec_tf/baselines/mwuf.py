"""MWUF: networks that scale and shift a cold ID embedding into a warm one."""

import keras
import numpy as np
from keras import ops

from cmclrec_tf.baselines.base import events, mlp
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.schema import PAD, TRAIN


@keras.saving.register_keras_serializable("cmclrec_tf")
class MWUF(FactorBaseline):
    """state_u = e_u * scale(x_u) + shift(mean of the history's item vectors).

    e_u is the ID embedding: the preference vector of a user with a history; of a new one, and of a
    share of the train users of a batch, the mean of the train users' vectors (common
    initialisation). Only the two networks learn, by the loss on an item of the user that is left
    out; factors of users and items stay as they were.

    The paper warms up items, and shifts by the users who took them. A user without events has no
    such mean: the network shifts by what it makes of zeros.

    Source: Zhu et al., Learning to Warm Up Cold Item Embeddings for Cold-start Recommendation with
    Meta Scaling and Shifting Networks, SIGIR 2021, section 4.
    """

    losses = ("loss/items",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.scale = mlp(hidden, width, "scale")
        self.shift = mlp(hidden, width, "shift")
        self.common = self.add_weight(
            shape=(width,), initializer="zeros", trainable=False, name="common"
        )

    @property
    def table(self):
        """The factors over the temperature: a softmax tells their scores apart."""
        return super().table / self.config.baseline.temperature

    def items(self, ids):
        """Their vectors: item ids [...] -> [..., D]."""
        return ops.take(self.table, ids, axis=0)

    def prepare(self, dataset) -> None:
        super().prepare(dataset)
        batches = dataset.batches(TRAIN, 1024, shuffle=False)
        vectors = [np.asarray(self.preferences(events(batch))) for batch in batches]
        self.common.assign(np.concatenate(vectors).mean(axis=0))

    def user_states(self, history, features, is_cold, training=None):
        identity = ops.where(is_cold[:, None], self.common, self.preferences(history))
        scale = self.scale(self.flat_tokens(features, training))
        return identity * scale + self.shift(self.average(history))

    def losses_of(self, batch, training=None):
        context, positive = self.left_out(batch, training)
        new = self.withheld(batch, training)
        shown = ops.where(new[:, None], PAD, context)
        states = self.user_states(shown, batch["features"], new, training)
        loss = self.item_loss(states, positive, context)
        return {"loss/items": loss, "loss": loss}

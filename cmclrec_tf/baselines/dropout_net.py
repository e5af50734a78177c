"""DropoutNet: a network that learns to do without the preference vector."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import events, mlp
from cmclrec_tf.baselines.factors import FactorBaseline


@keras.saving.register_keras_serializable("cmclrec_tf")
class DropoutNet(FactorBaseline):
    """loss = mean_ui (f_U([u, x_u]) . f_V(v_i) - u . v_i)^2, with u = 0 for some users of a batch.

    u and v are factors, x_u the user features; items have no features here. A cold user is one
    with u = 0.

    Source: Volkovs, Yu and Poutanen, DropoutNet: Addressing Cold Start in Recommender Systems,
    NeurIPS 2017, sections 4.1 and 4.2.
    """

    losses = ("loss/scores",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.user_network = mlp(hidden, width, "user_network")
        self.item_network = mlp(hidden, width, "item_network")
        self.item_network.build((None, width))

    def user_states(self, history, features, is_cold, training=None):
        # A history without known items has the preference vector 0.
        return self._states(self.preferences(history), features, training)

    def losses_of(self, batch, training=None):
        u = self.preferences(events(batch))
        shown = ops.where(self.withheld(batch, training)[:, None], 0.0, u)
        states = self._states(shown, batch["features"], training)
        loss = self.score_loss(states, u, batch)
        return {"loss/scores": loss, "loss": loss}

    def _states(self, preference, features, training):
        tokens = self.flat_tokens(features, training)
        return self.user_network(ops.concatenate([preference, tokens], axis=1))

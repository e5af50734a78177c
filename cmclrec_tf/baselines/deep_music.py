"""DeepMusic: features regressed onto latent factors."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import events, mlp
from cmclrec_tf.baselines.factors import FactorBaseline


@keras.saving.register_keras_serializable("cmclrec_tf")
class DeepMusic(FactorBaseline):
    """loss = mean_u |f(x_u) - u|^2 with the preference vector u and the user features x_u.

    A cold user's state is f(x_u), a warm one's the preference vector of the history; items are
    their factors. Where the paper reads audio by a convolutional network, an MLP reads the fields.

    Source: van den Oord, Dieleman and Schrauwen, Deep Content-Based Music Recommendation, NeurIPS
    2013, section 4.3.
    """

    losses = ("loss/regression",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        self.regression = mlp(self.config.baseline.hidden, self.config.model.width, "regression")

    def user_states(self, history, features, is_cold, training=None):
        regressed = self.regression(self.flat_tokens(features, training))
        return ops.where(is_cold[:, None], regressed, self.preferences(history))

    def losses_of(self, batch, training=None):
        regressed = self.regression(self.flat_tokens(batch["features"], training))
        distance = ops.sum((regressed - self.preferences(events(batch))) ** 2, axis=1)
        return {"loss/regression": ops.mean(distance), "loss": ops.mean(distance)}

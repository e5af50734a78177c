"""Heater: features transformed by a mixture of experts stand in for the preference vector."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import events
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.layers.dense import Dense


@keras.saving.register_keras_serializable("cmclrec_tf")
class MixtureOfExperts(keras.layers.Layer):
    """f(x) = tanh(sum_k tanh(g_k(x)) tanh(E_k x)), experts E_k and gates g_k one dense layer each.

    Args:
        experts: K. width: D.
    """

    def __init__(self, experts, width, **kwargs):
        super().__init__(**kwargs)
        self.experts, self.width = experts, width
        self.gates = Dense(experts, activation="tanh", name="gates")
        self.transformed = Dense(experts * width, activation="tanh", name="experts")

    def call(self, x):
        """x [B, n] -> [B, D]."""
        transformed = ops.reshape(self.transformed(x), (-1, self.experts, self.width))
        return ops.tanh(ops.sum(self.gates(x)[:, :, None] * transformed, axis=1))

    def get_config(self):
        return {**super().get_config(), "experts": self.experts, "width": self.width}


@keras.saving.register_keras_serializable("cmclrec_tf")
class Heater(FactorBaseline):
    """loss = mean_ui (f_U(z_u) . f_V(v_i) - u . v_i)^2 + alpha mean_u |f(x_u) - u|^2.

    z_u is the preference vector u, or, for some users of a batch (randomised training) and for
    cold ones, the transformed features f(x_u), see `MixtureOfExperts`. Layer normalisation where
    the paper has batch normalisation: a user's list must not depend on the batch.

    Source: Zhu, Sefati, Saadatpanah and Caverlee, Recommendation for New Users and New Items via
    Randomized Training and Mixture-of-Experts Transformation, SIGIR 2020, section 3.
    """

    losses = ("loss/scores", "loss/similarity")

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        width = self.config.model.width
        self.transform = MixtureOfExperts(self.config.baseline.experts, width, name="transform")
        self.user_network = _network(width, "user_network")
        self.item_network = _network(width, "item_network")
        self.item_network.build((None, width))

    def user_states(self, history, features, is_cold, training=None):
        transformed = self.transform(self.flat_tokens(features, training))
        return self.user_network(
            ops.where(is_cold[:, None], transformed, self.preferences(history))
        )

    def losses_of(self, batch, training=None):
        u = self.preferences(events(batch))
        transformed = self.transform(self.flat_tokens(batch["features"], training))
        replaced = self.withheld(batch, training)
        states = self.user_network(ops.where(replaced[:, None], transformed, u))
        scores = self.score_loss(states, u, batch)
        similarity = ops.mean(ops.sum((transformed - u) ** 2, axis=1))
        total = scores + self.config.baseline.similarity * similarity
        return {"loss/scores": scores, "loss/similarity": similarity, "loss": total}


def _network(width, name):
    layers = [
        Dense(width),
        keras.layers.LayerNormalization(epsilon=1e-6),
        keras.layers.Activation("tanh"),
        Dense(width),
    ]
    return keras.Sequential(layers, name=name)

"""Heater (Zhu et al., SIGIR 2020): turns features into preferences by a mixture of experts."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import events_of
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, KerasConfig, Losses, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class MixtureOfExperts(keras.layers.Layer):
    """f(x) = tanh(sum_k tanh(g_k(x)) tanh(E_k x)); each expert E_k and gate g_k is a dense layer.

    Args:
        experts: K, the number of experts.
        width: D, the width of the output.

    Example:
        >>> from keras import ops
        >>> MixtureOfExperts(experts=3, width=8)(ops.ones((2, 5))).shape
        TensorShape([2, 8])
    """

    def __init__(self, experts: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.experts, self.width = experts, width
        self.gates = Dense(experts, activation="tanh", name="gates")
        self.transformed = Dense(experts * width, activation="tanh", name="experts")

    def call(self, x: Tensor) -> FloatBD:
        """Returns f(x) [B, D] for x [B, n]."""
        transformed = ops.reshape(self.transformed(x), (-1, self.experts, self.width))
        return ops.tanh(ops.sum(self.gates(x)[:, :, None] * transformed, axis=1))

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "experts": self.experts, "width": self.width}


@keras.saving.register_keras_serializable("cmclrec_tf")
class Heater(FactorBaseline):
    """Transformed features replace the preference vector of cold users and of some train users.

    loss = mean_ui (f_U(z_u) . f_V(v_i) - u . v_i)^2 + alpha mean_u |f(x_u) - u|^2

    z_u is the preference vector u of a warm user. For a cold user, and for a share of the users of
    a batch (randomised training), it is the output f(x_u) of a `MixtureOfExperts` on the features.

    Differences from the paper: layer normalisation replaces batch normalisation, as a user's list
    must not depend on the batch; items have no features.

    Source: Zhu, Sefati, Saadatpanah and Caverlee, Recommendation for New Users and New Items via
    Randomized Training and Mixture-of-Experts Transformation, SIGIR 2020, section 3.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = Heater(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/scores", "loss/similarity")

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        width = self.config.model.width
        self.transform = MixtureOfExperts(self.config.baseline.experts, width, name="transform")
        self.user_network = _network(width, "user_network")
        self.item_network = _network(width, "item_network")
        self.item_network.build((None, width))

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        transformed = self.transform(self.flat_tokens(features, training))
        return self.user_network(
            ops.where(is_cold[:, None], transformed, self.preferences(history))
        )

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        u = self.preferences(events_of(batch))
        transformed = self.transform(self.flat_tokens(batch["features"], training))
        replaced = self.withheld_rows(batch, training)
        states = self.user_network(ops.where(replaced[:, None], transformed, u))
        scores = self.score_loss(states, u, batch)
        similarity = ops.mean(ops.sum((transformed - u) ** 2, axis=1))
        total = scores + self.config.baseline.similarity * similarity
        return {"loss/scores": scores, "loss/similarity": similarity, "loss": total}


def _network(width: int, name: str) -> keras.Sequential:
    layers = [
        Dense(width),
        keras.layers.LayerNormalization(epsilon=1e-6),
        keras.layers.Activation("tanh"),
        Dense(width),
    ]
    return keras.Sequential(layers, name=name)

"""DeepMusic (van den Oord et al., NeurIPS 2013): regresses latent factors on features."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import events_of, mlp
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, Losses

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class DeepMusic(FactorBaseline):
    """A network predicts the preference vector u of a user from the features x_u.

    loss = mean_u |f(x_u) - u|^2

    The state of a cold user is f(x_u), that of a warm user the preference vector of the history.
    The items are the factors.

    Differences from the paper: users take the place of songs, and an MLP on features that of a
    convolutional network on audio.

    Source: van den Oord, Dieleman and Schrauwen, Deep Content-Based Music Recommendation, NeurIPS
    2013, section 4.3.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = DeepMusic(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/regression",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        self.regression = mlp(self.config.baseline.hidden, self.config.model.width, "regression")

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        predicted = self.regression(self.flat_tokens(features, training))
        return ops.where(is_cold[:, None], predicted, self.preferences(history))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        predicted = self.regression(self.flat_tokens(batch["features"], training))
        distance = ops.sum((predicted - self.preferences(events_of(batch))) ** 2, axis=1)
        return {"loss/regression": ops.mean(distance), "loss": ops.mean(distance)}

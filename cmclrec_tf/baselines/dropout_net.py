"""DropoutNet (Volkovs et al., NeurIPS 2017): learns to do without the preference vector."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import events_of, mlp
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, Losses, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class DropoutNet(FactorBaseline):
    """Networks reproduce the factors' scores while some preference vectors are dropped.

    loss = mean_ui (f_U([u, x_u]) . f_V(v_i) - u . v_i)^2, with the input u = 0 for a share of the
    users of a batch. u and v are factors, x_u the user features. A cold user has u = 0.

    Difference from the paper: items have no features.

    Source: Volkovs, Yu and Poutanen, DropoutNet: Addressing Cold Start in Recommender Systems,
    NeurIPS 2017, sections 4.1 and 4.2.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = DropoutNet(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/scores",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.user_network = mlp(hidden, width, "user_network")
        self.item_network = mlp(hidden, width, "item_network")
        self.item_network.build((None, width))

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        # A history without known items has the preference vector 0.
        return self._states(self.preferences(history), features, training)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        u = self.preferences(events_of(batch))
        inputs = ops.where(self.withheld_rows(batch, training)[:, None], 0.0, u)
        states = self._states(inputs, batch["features"], training)
        loss = self.score_loss(states, u, batch)
        return {"loss/scores": loss, "loss": loss}

    def _states(self, preference: Tensor, features: Features, training: bool | None) -> FloatBD:
        tokens = self.flat_tokens(features, training)
        return self.user_network(ops.concatenate([preference, tokens], axis=1))

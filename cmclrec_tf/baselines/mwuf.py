"""MWUF (Zhu et al., SIGIR 2021): networks that scale and shift a cold embedding to a warm one."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from cmclrec_tf.baselines.base import events_of, mlp
from cmclrec_tf.baselines.factors import FactorBaseline
from cmclrec_tf.schema import PAD, TRAIN
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, FloatVD, IdsBL, IdsBN, Losses, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class MWUF(FactorBaseline):
    """state_u = e_u * scale(x_u) + shift(mean of the history's item vectors).

    e_u is the preference vector of a user with a history. For a new user, and for a share of the
    train users of a batch, it is the mean vector of the train users (common initialisation). Only
    the networks `scale` and `shift` are trained, on an item of the user that is left out of the
    history; the factors of users and items stay fixed.

    Differences from the paper: it warms up items, and shifts them by the users who took them. A
    user without events has no such mean: the input of `shift` is then 0.

    Source: Zhu et al., Learning to Warm Up Cold Item Embeddings for Cold-start Recommendation with
    Meta Scaling and Shifting Networks, SIGIR 2021, section 4.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = MWUF(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/items",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        hidden, width = self.config.baseline.hidden, self.config.model.width
        self.scale = mlp(hidden, width, "scale")
        self.shift = mlp(hidden, width, "shift")
        self.common = self.add_weight(
            shape=(width,), initializer="zeros", trainable=False, name="common"
        )

    @property
    def table(self) -> FloatVD:
        """The factors divided by the temperature, so that a softmax can separate their scores."""
        return super().table / self.config.baseline.temperature

    def items(self, ids: IdsBN) -> Tensor:
        """Returns the item vectors [..., D] of ids [...]."""
        return ops.take(self.table, ids, axis=0)

    def prepare(self, dataset: "PreparedDataset") -> None:
        super().prepare(dataset)
        batches = dataset.batches(TRAIN, 1024, shuffle=False)
        vectors = [np.asarray(self.preferences(events_of(batch))) for batch in batches]
        self.common.assign(np.concatenate(vectors).mean(axis=0))

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        identity = ops.where(is_cold[:, None], self.common, self.preferences(history))
        scale = self.scale(self.flat_tokens(features, training))
        return identity * scale + self.shift(self.average(history))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        context, positive = self.leave_one_out(batch, training)
        new = self.withheld_rows(batch, training)
        history = ops.where(new[:, None], PAD, context)
        states = self.user_states(history, batch["features"], new, training)
        loss = self.item_loss(states, positive, context)
        return {"loss/items": loss, "loss": loss}

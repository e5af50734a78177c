"""The backbone without the mapper: a plain sequential recommender to compare CMCLRec with."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.models.cross_modal import embed_history, item_embedding
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import PAD, Schema
from cmclrec_tf.types import (
    Batch,
    BoolB,
    BoolBL,
    Features,
    FloatBD,
    FloatBLD,
    IdsBL,
    IdsBN,
    Losses,
    Times,
    TimesBN,
    Users,
)

LOSSES = ("loss", "loss/warm", "loss/cold", "loss/backbone")


@keras.saving.register_keras_serializable("cmclrec_tf")
class PlainRecommender(Recommender):
    """A backbone R(.) on item embeddings, trained by Eq. (14) alone.

    It ignores user features. A cold user is a user with an empty history, so all cold users get
    the same list. With `model.times` it reads when events took place, if a batch says so.

    `fit` takes batches of `PreparedDataset.batches`. `call` returns the user states [B, D], with
    two dimensions more for a popularity prior. `recommend` returns the item ids [B, K].

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`; the parts `model`, `finetune`, `data` and `evaluate` are used.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.PlainRecommender(data.schema, cm.Config.preset("tiny"))
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> log = model.fit(data.batches("train", 64), epochs=1, verbose=0)
        >>> model.recommend(next(iter(data.batches("test", 8))), k=3).shape
        TensorShape([8, 3])
    """

    def __init__(self, schema: Schema, config: Config, **kwargs: Any) -> None:
        if config.model.times and config.model.popularity_prior:
            raise InputError(
                "model.times=True with a popularity prior",
                "the prior is fitted to states without times",
                "Set model.popularity_prior=false, or model.times=false.",
            )
        super().__init__(schema, config, LOSSES, **kwargs)
        items = item_embedding(schema, config.model.width)
        self._build(items, config.seed, config.data.max_history)

    def call(self, batch: Users, training: bool | None = None) -> FloatBD:
        """Returns the users' embeddings: their states g_{L-1}, and the weights of the prior."""
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        return self.with_prior(self._state(history, training, batch), history)

    def state(
        self, history: IdsBN, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        """Returns g_{L-1} [B, D] without the prior; `features` are not read."""
        history = ops.where(is_cold[:, None], PAD, history)
        return self._state(history, training)

    def embed(
        self, history: IdsBL, hidden: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Returns the input of the backbone [B, L, D]: the item embeddings."""
        return embed_history(self.items, history, hidden, self.backbone.mask_vector)

    def warm_states(self, history: IdsBL, times: Times | None = None) -> FloatBD:
        """Returns the users' embeddings from histories [B, L], and their times if known."""
        return self.with_prior(self._state(history, False, times), history)

    def cold_states(self, features: Features) -> FloatBD:
        """Returns the state of an empty history for every row [B, D]."""
        rows = ops.shape(next(iter(features.values())))[0]
        return self.warm_states(ops.zeros((rows, self.config.data.max_history), "int32"))

    def warm_and_cold_states(self, batch: Users) -> tuple[FloatBD, FloatBD]:
        return self.warm_states(batch["history"], batch), self.cold_states(batch["features"])

    def _state(self, history: IdsBN, training: bool | None, times: Times | None = None) -> FloatBD:
        x, mask = self.embed(history), history != PAD
        return self.backbone.state(x, mask, training=training, **self._times(times))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Eq. (14) over the warm rows, plus the backbone's own loss in training."""
        history, warm = batch["history"], ops.cast(ops.logical_not(batch["is_cold"]), "float32")
        x, mask = self.embed(history), history != PAD
        g = self.learned_states(x, mask, training, **self._times(batch))
        loss = self.history_loss(g, history, batch["target"], warm, training)
        auxiliary = self.backbone.auxiliary_loss(x, mask) if training else 0.0
        return {"loss/warm": loss, "loss/backbone": auxiliary, "loss": loss + auxiliary}

    def _times(self, batch: Times | None) -> dict[str, TimesBN]:
        """Returns what the backbone reads of the times of a batch, where they are known."""
        if not self.config.model.times or not batch or "now" not in batch:
            return {}
        return {"times": ops.concatenate([batch["history_time"], batch["now"][:, None]], axis=1)}

"""The backbone with the mapper taken away: the plain sequential recommender."""

import keras
from keras import ops

from cmclrec_tf.models.cross_modal import embed, item_embedding
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import PAD

LOSSES = ("loss", "loss/warm", "loss/cold", "loss/backbone")


@keras.saving.register_keras_serializable("cmclrec_tf")
class PlainRecommender(Recommender):
    """R(.) on raw item embeddings, trained by Eq. (14) alone: what CMCLRec is compared with.

    It has no use for user features: a cold user is a user with an empty history.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`, of which `model`, `finetune`, `data` and `evaluate` are used.

    Example:
        >>> model = PlainRecommender(data.schema, config)
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> model.fit(data.batches("train", 64), validation_data=data.batches("val", 256))
    """

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, LOSSES, **kwargs)
        self._build(item_embedding(schema, config.model.width), config.seed)

    def call(self, batch, training=None):
        """batch -> the user states g_{L-1} [B, D]."""
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        return self._states(history, training)

    def embed(self, history, hidden=None, training=None):
        """history ids [B, L], hidden bool [B, L] -> what the backbone sees [B, L, D]."""
        return embed(self.items, history, hidden, self.backbone.mask_vector)

    def warm_states(self, history):
        """history ids [B, L] -> user states [B, D]."""
        return self._states(history, training=False)

    def cold_states(self, features):
        """The state of an empty history for every row [B, D]."""
        rows = ops.shape(next(iter(features.values())))[0]
        return self.warm_states(ops.zeros((rows, self.config.data.max_history), "int32"))

    def _states(self, history, training):
        return self.backbone.state(self.embed(history), history != PAD, training=training)

    def losses_of(self, batch, training=None):
        history, rows = batch["history"], ops.cast(ops.logical_not(batch["is_cold"]), "float32")
        x, mask = self.embed(history), history != PAD
        g = self.learned_states(x, mask, training)
        loss = self.history_loss(g, history, batch["target"], rows, training)
        own = self.backbone.auxiliary_loss(x, mask) if training else 0.0
        return {"loss/warm": loss, "loss/backbone": own, "loss": loss + own}

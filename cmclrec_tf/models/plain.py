"""The backbone with the mapper taken away: the plain sequential recommender."""

import keras
from keras import ops

from cmclrec_tf import backbones
from cmclrec_tf.config import Config
from cmclrec_tf.models.recommender import Recommender, next_labels
from cmclrec_tf.schema import PAD, Schema


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
        super().__init__(("loss", "loss/next_item"), **kwargs)
        self.schema, self.config = schema, config
        self.items = keras.layers.Embedding(
            schema.items,
            config.model.width,
            keras.initializers.RandomNormal(stddev=0.02),
            name="items",
        )
        self.backbone = backbones.create(
            config.model.backbone, config.data.max_history, config.model
        )
        self.build_bias()
        self.seed = keras.random.SeedGenerator(config.seed)

    def call(self, batch, training=None):
        """batch -> the user states g_{L-1} [B, D]."""
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        return self.encode(history, training)[:, -1]

    def encode(self, history, training=None):
        """history ids [B, L] -> G [B, L, D]."""
        return self.backbone(self.items(history), history != PAD, training=training)

    def warm_states(self, history):
        """history ids [B, L] -> user states [B, D]."""
        return self.encode(history, training=False)[:, -1]

    def cold_states(self, features):
        """The state of an empty history for every row [B, D]."""
        rows = ops.shape(next(iter(features.values())))[0]
        return self.warm_states(ops.zeros((rows, self.config.data.max_history), "int32"))

    def losses_of(self, batch, training=None):
        labels, g = next_labels(batch), self.encode(batch["history"], training)
        if self.config.model.positions == "last":
            g, labels = g[:, -1:], labels[:, -1:]
        warm = ops.cast(ops.logical_not(batch["is_cold"]), "float32")
        loss = self.mean_loss(g, labels, warm, training)
        return {"loss/next_item": loss, "loss": loss}

    def get_config(self):
        return {"schema": self.schema.to_dict(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config):
        return cls(Schema.from_dict(config["schema"]), Config.from_dict(config["config"]))

"""An expert in user features: scores by features alone, with item vectors of its own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.config import Config
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.next_item import next_item, soft_next_item
from cmclrec_tf.models.cold_rows import decayed_targets
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import FIRST_ID, Feature, Schema
from cmclrec_tf.types import (
    Batch,
    BoolBM,
    Features,
    FloatBD,
    FloatBV,
    KerasConfig,
    Losses,
    Tensor,
    Users,
)

# Width of a feature's token, and the dropout rate of the hidden layer.
_TOKEN_WIDTH, _DROPOUT = 32, 0.3
# Validation metric of `ExpertTrainer`.
LOG_PROBABILITY = "log_probability"


@keras.saving.register_keras_serializable("cmclrec_tf")
class FeatureExpert(keras.layers.Layer):
    """A second opinion on cold users: an MLP from user features to scores.

    z_u = gelu(W [tokens of all features] + b),  score(u, i) = <z_u, w_i>

    It shares no weight with the cold path, so that the errors of the two differ, and the sum of
    both scores, which is a product of experts, may rank better. `PopularityPrior` weighs it.

    Args:
        features: the `schema.Feature`s, with vocabulary sizes and numeric statistics.
        items: V.
        width: H, the width of z_u and w_i.
        seed: seeds dropout.

    Example:
        >>> expert = FeatureExpert([Feature("team", size=4)], items=6, width=3)
        >>> z = expert({"team": ops.array([[2], [3]])})
        >>> ops.shape(z), ops.shape(expert.scores(z))
        ((2, 3), (2, 6))
    """

    def __init__(
        self,
        features: Sequence[Feature | KerasConfig],
        items: int,
        width: int,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.items, self.width, self.seed = items, width, seed
        self.tokens = FeatureTokens(features, _TOKEN_WIDTH, name="tokens")
        self.inner = Dense(width, activation="gelu", name="inner")
        self.drop = keras.layers.Dropout(_DROPOUT, seed=seed)
        self.vectors = self.add_weight(
            shape=(items, width), initializer="glorot_uniform", autocast=False, name="vectors"
        )

    @classmethod
    def create(cls, schema: Schema, config: Config) -> "FeatureExpert":
        """Returns the new expert of a config with an `expert_width`."""
        width = config.model.expert_width
        return cls(schema.features, schema.items, width, config.seed, name="expert")

    def call(
        self, features: Features, masked: BoolBM | None = None, training: bool | None = None
    ) -> FloatBD:
        """Returns z_u, float32 [B, H].

        Args:
            features: user features, as `FeatureTokens` reads them.
            masked: bool [B, M], fields to hide.
            training: as in Keras.
        """
        tokens = self.tokens(features, masked)
        flat = ops.reshape(tokens, (-1, len(self.tokens.features) * _TOKEN_WIDTH))
        return ops.cast(self.drop(self.inner(flat), training=training), "float32")

    def scores(self, z: Tensor) -> Tensor:
        """Returns the scores float32 [..., V] of z [..., H]."""
        return ops.matmul(z, ops.transpose(ops.convert_to_tensor(self.vectors)))

    def get_config(self) -> KerasConfig:
        features = [vars(feature) for feature in self.tokens.features]
        sizes = {"items": self.items, "width": self.width, "seed": self.seed}
        return {**super().get_config(), "features": features, **sizes}


@keras.saving.register_keras_serializable("cmclrec_tf")
class ExpertTrainer(StagedModel):
    """Trains a `FeatureExpert` by itself, as a correction of the popularity of last events.

    loss = -sum_i y_i log softmax(<z_u, w_i> + log p_last(i)), with the targets y of the cold path,
    see `decayed_targets`. Validation reports `log_probability`, the mean log-probability of the
    next item.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config` with `model.expert_width` above 0.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> config = cm.Config.preset("tiny").changed({"model.expert_width": 4})
        >>> trainer = ExpertTrainer(data.schema, config)
        >>> trainer.compile(keras.optimizers.Adam(1e-3))
        >>> log = trainer.fit(data.batches("train", 128), epochs=1, verbose=0)
        >>> model = cm.CMCLRec(data.schema, config, expert=trainer.expert)
    """

    def __init__(self, schema: Schema, config: Config, **kwargs: Any) -> None:
        super().__init__(("loss", LOG_PROBABILITY), **kwargs)
        self.schema, self.config = schema, config
        self.expert = FeatureExpert.create(schema, config)
        # In float32 under any policy, as the scores are.
        self.log_popularity = self.add_weight(
            shape=(schema.items,),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="log_popularity",
        )
        self.seed = keras.random.SeedGenerator(config.seed)

    def call(
        self, batch: Users, masked: BoolBM | None = None, training: bool | None = None
    ) -> FloatBV:
        """Returns scores float32 [B, V] by the user features, with MASKED_SCORE for PAD and OOV."""
        z = self.expert(batch["features"], masked, training=training)
        scores = self.expert.scores(z) + self.log_popularity
        return ops.where(ops.arange(self.schema.items) >= FIRST_ID, scores, MASKED_SCORE)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Returns the `loss` of a batch; with `training`, some fields are hidden."""
        settings, masked = self.config.finetune, None
        if training and settings.feature_dropout:
            n_rows, fields = ops.shape(batch["history"])[0], len(self.schema.features)
            masked = augment.drop_fields(n_rows, fields, settings.feature_dropout, self.seed)
        targets = decayed_targets(batch, settings.cold_decay, self.schema.items)
        scores = self(batch, masked, training=training)
        return {"loss": replicas.mean(soft_next_item(scores, targets))}

    def validation_of(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the log-probability of each user's next item; 0 if it is not known."""
        return {LOG_PROBABILITY: -next_item(self(batch, training=False), batch["target"][:, 0])}

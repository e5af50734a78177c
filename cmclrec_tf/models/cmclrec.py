"""Stage 2: CMCLRec, a backbone that reads real or simulated histories, Eqs. (12)-(14) and (16)."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.losses.next_item import soft_next_item
from cmclrec_tf.models import ablations, prefix
from cmclrec_tf.models.cold_rows import (
    decayed_targets,
    either,
    keyed_uniform,
    without_history,
)
from cmclrec_tf.models.cross_modal import CrossModalMapper
from cmclrec_tf.models.expert import FeatureExpert
from cmclrec_tf.models.pretrain import LOSSES, in_batch_contrast, pretrain_losses
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import PAD, Schema
from cmclrec_tf.types import (
    Batch,
    BoolB,
    BoolBL,
    Features,
    FloatB,
    FloatBD,
    FloatBLD,
    FloatBND,
    FloatBSD,
    FloatBV,
    IdsBL,
    IdsBN,
    KeysB,
    Losses,
    Tensor,
    Users,
)

_LOSSES = ("warm", "cold", "next_item", "states", "backbone")
REC_LOSSES = tuple(f"loss/{name}" for name in _LOSSES)


@keras.saving.register_keras_serializable("cmclrec_tf")
class CMCLRec(Recommender):
    """Stage 2 of Algorithm 1: recommends to warm and cold users alike.

    The backbone R(.) reads the history side T_s of a warm user, and the simulated history T_s' of
    a cold one (Eq. 13). The scores of all items are the inner products of the user's state with
    the item embeddings. The loss is L_fine = eta L_pre + L_rec (Eq. 16), with L_rec from Eq. (14).

    `compile` takes an optimizer; the loss is built in. `fit` takes batches of
    `PreparedDataset.batches` (`types.Batch`): `history` ids [B, L], `features`, `is_cold` [B],
    `target` [B, N] with the next item first, and `user_key` [B].
    `evaluate` reports `ndcg_warm`, `ndcg_cold` and `ndcg`, their geometric mean. `call` returns
    the user states [B, D]; `recommend` returns the ids of the best items [B, K].

    `cmclrec_tf.train` runs both stages, with early stopping and moving averages of the weights.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.
        mapper: the mapper from stage 1; None makes a new one.
        expert: the trained expert of `model.expert_width`; None makes a new one.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.CMCLRec(data.schema, cm.Config.preset("tiny"))
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> train, val = data.batches("train", 64), data.batches("val", 64)
        >>> log = model.fit(train, validation_data=val, epochs=1, verbose=0)
        >>> sorted(name for name in log.history if "ndcg" in name)
        ['val_ndcg', 'val_ndcg_cold', 'val_ndcg_warm']
        >>> model.recommend(next(iter(data.batches("test", 8))), k=3).shape
        TensorShape([8, 3])
    """

    def __init__(
        self,
        schema: Schema,
        config: Config,
        mapper: CrossModalMapper | None = None,
        expert: FeatureExpert | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, config, ("loss", *LOSSES, *REC_LOSSES), **kwargs)
        self.mapper = mapper or ablations.create(schema, config.model, config.data.max_history)
        length = config.data.max_history
        if config.model.times:
            raise InputError(
                "model.times=True for a model with a mapper",
                "a simulated history has no times",
                "Train the backbone alone, or set model.times=false.",
            )
        self._has_prefix = config.model.sequence == "prefix"
        longest = length + self.mapper.count if self._has_prefix else length
        if config.model.has_expert:
            self.expert = expert or FeatureExpert.create(schema, config)
            self.expert.trainable = False  # `ExpertTrainer` trains it
        self._build(self.mapper.items, config.seed + 1, longest)
        # Which users are flagged cold changes with the epoch, in the same way in every run.
        self.epoch = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="epoch"
        )

    def call(self, batch: Users, training: bool | None = None) -> FloatBD:
        """Returns the users' embeddings: their states by Eq. (13), and the weights of the prior.

        With `sequence: prefix` they depend on the user features and the history, with `either` on
        the features where `is_cold`, and on the history elsewhere.
        """
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        g = self.state(history, batch["features"], batch["is_cold"], training)
        return self.with_prior(g, history, batch["features"])

    def state(
        self, history: IdsBN, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        """Returns g_{L-1} [B, D] by Eq. (13), without the prior; arguments as those of `call`."""
        history = ops.where(is_cold[:, None], PAD, history)
        users: Users = {"history": history, "features": features, "is_cold": is_cold}
        t_s, _, simulated = self.mapper(users, training=training)
        if self._has_prefix:
            x, mask, _ = prefix.join(simulated, t_s, history)
        else:
            x, mask = either(is_cold, simulated, t_s, history)
        return self.backbone.state(x, mask, training=training)

    def states(self, history: IdsBL, features: Features) -> FloatBD:
        """Returns embeddings of users with histories [B, L] and user features, as `call` does."""
        is_cold = ops.logical_not(ops.any(history != PAD, axis=1))
        users: Users = {"history": history, "features": features, "is_cold": is_cold}
        return self(users, training=False)

    def simulated(self, features: Features) -> FloatBSD:
        """Returns T_s' [B, S, D], the simulated history that the backbone reads, oldest first."""
        return self.mapper.simulate(self.mapper.feature_side(features))

    def simulated_states(self, simulated: FloatBSD, training: bool | None = None) -> FloatBD:
        """Returns the states [B, D] of users without a history, from T_s' [B, S, D]."""
        mask = ops.ones(ops.shape(simulated)[:2], dtype="bool")
        return self.backbone.state(simulated, mask, training=training)

    def embed(
        self, history: IdsBL, hidden: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Returns T_s [B, L, D] of histories [B, L]; a mask vector stands for hidden items."""
        vector = self.backbone.mask_vector
        return self.mapper.history_side(history, hidden, vector, training=training)

    def warm_states(self, history: IdsBL) -> FloatBD:
        """Returns user embeddings [B, D] from histories [B, L]; user features are not read."""
        t_s = self.embed(history, training=False)
        g = self.backbone.state(t_s, history != PAD, training=False)
        return self.with_prior(g, history)

    def cold_states(self, features: Features) -> FloatBD:
        """Returns user embeddings [B, D] from user features, by the simulated history."""
        g = self.simulated_states(self.simulated(features), training=False)
        return self.with_prior(g, None, features)

    def warm_and_cold_states(self, batch: Users) -> tuple[FloatBD, FloatBD]:
        """Returns two states [B, D] of every user: with all that is known, and without history."""
        warm = self.states(batch["history"], batch["features"])
        return warm, self.cold_states(batch["features"])

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Returns `loss`, which is Eq. (16) plus the backbone's auxiliary loss, and its parts.

        Training alone calls it; validation reports what `validation_of` returns.
        """
        settings = self.config.finetune
        # From the whole history, before it is removed.
        cold_targets = decayed_targets(batch, settings.cold_decay, self.schema.items)
        batch = self._with_less_history(batch, training)
        warm = ops.cast(ops.any(batch["history"] != PAD, axis=1), "float32")
        t_s, _, simulated = mapped = self.mapper(batch, training=training)
        pre: Losses = {"loss/pretrain": 0.0}
        if settings.eta:
            stage1 = self.config.pretrain
            pre = pretrain_losses(self.mapper, batch, mapped, stage1, self.seed, warm, training)
        if training and settings.feature_dropout:
            # L_pre reads all fields; the cold path learns to do without some of them.
            simulated = self._simulate_with_dropout(batch["features"])
        rec = self._recommendation_losses(batch, t_s, simulated, cold_targets, warm, training)
        total = settings.eta * pre["loss/pretrain"] + rec["loss/next_item"] + rec["loss/backbone"]
        total += settings.contrast * rec["loss/states"]
        return {**pre, **rec, "loss": total}

    def _with_less_history(self, batch: Batch, training: bool | None) -> Batch:
        """Simulates users with less history; their targets remain.

        In training, with `sequence: prefix` some rows forget the older part of their history, or
        all of it. With `either` a keyed hash of user and epoch flags rows as cold (Eq. 12).
        """
        settings, is_cold = self.config.finetune, batch["is_cold"]
        if self._has_prefix:
            if training:
                history = prefix.forget(batch["history"], settings.forgotten_share, self.seed)
                batch = {**batch, "history": history}
            return without_history(batch, is_cold)
        return without_history(batch, ops.logical_or(self._cold_flags(batch["user_key"]), is_cold))

    def _cold_flags(self, user_key: KeysB) -> BoolB:
        """Eq. (12) in training: flags users as cold by a keyed hash of user and epoch, bool [B]."""
        share = self.config.finetune.cold_share
        return keyed_uniform(user_key, self.epoch, self.config.seed) < share

    def _simulate_with_dropout(self, features: Features) -> FloatBSD:
        """Returns T_s' from features, some fields masked: it must not rely on a single field."""
        n_rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        share = self.config.finetune.feature_dropout
        dropped = augment.drop_fields(n_rows, fields, share, self.seed)
        return self.mapper.simulate(self.mapper.feature_side(features, dropped))

    def _recommendation_losses(
        self,
        batch: Batch,
        t_s: FloatBND,
        simulated: FloatBSD,
        cold_targets: FloatBV,
        warm: FloatB,
        training: bool | None,
    ) -> Losses:
        """Eq. (14) over warm and cold rows; mean over the users of the batch.

        `warm` [B] is 1 for rows with a history.
        """
        settings, history = self.config.finetune, batch["history"]
        states = self._states_with_prefix if self._has_prefix else self._states_of_either
        g, g_cold, cold = states(t_s, simulated, history, training)
        loss_warm = self.history_loss(g, history, batch["target"], warm, training)
        if settings.distill and training:
            # The cold state also learns the prediction after the whole history, if there is one.
            prediction = ops.softmax(ops.stop_gradient(self.score(g[:, -1])))
            weight = settings.distill * warm[:, None]
            cold_targets = (1.0 - weight) * cold_targets + weight * prediction
        loss_cold = replicas.mean(soft_next_item(self.score(g_cold), cold_targets) * cold)
        contrast: Tensor = 0.0
        if settings.contrast and self._has_prefix:
            # Users of one profile have one cold state: they are no negatives of each other.
            tau, keys = settings.temperature, batch["profile_key"]
            contrast = in_batch_contrast(g_cold, g[:, -1], tau, keys, warm * cold)
        return {
            "loss/warm": loss_warm,
            "loss/cold": loss_cold,
            "loss/next_item": loss_warm + settings.cold_weight * loss_cold,
            "loss/states": contrast,
            "loss/backbone": self.backbone.auxiliary_loss(t_s, history != PAD) if training else 0.0,
        }

    def _states_with_prefix(
        self, t_s: FloatBND, simulated: FloatBSD, history: IdsBN, training: bool | None
    ) -> tuple[FloatBND, FloatBD, FloatB]:
        """Returns G [B, N, D] of the prefix form, the cold states [B, D], and which of these count.

        One causal pass gives both: the state at the prefix's end has seen no history.
        """
        shown = ops.ones_like(history[:, 0], dtype="bool")
        if training:
            share = self.config.finetune.hidden_share
            shown = replicas.uniform((ops.shape(history)[0],), self.seed) >= share
        x, mask, end = prefix.join(simulated, t_s, history, shown)
        g = self.learned_states(x, mask, training)
        if self._learns_every:
            return g, prefix.at_end(g, end), ops.cast(shown, "float32")
        return g, self.simulated_states(simulated, training), ops.ones_like(end[:, 0])

    def _states_of_either(
        self, t_s: FloatBND, simulated: FloatBSD, history: IdsBN, training: bool | None
    ) -> tuple[FloatBND, FloatBD, FloatB]:
        """Eq. (13) as printed: rows without a history read T_s', and they alone train it."""
        is_cold = ops.logical_not(ops.any(history != PAD, axis=1))
        x, mask = either(is_cold, simulated, t_s, history)
        g = self.learned_states(x, mask, training)
        return g, g[:, -1], ops.cast(is_cold, "float32")

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Fits as `keras.Model.fit` does, and sets `epoch` to Keras's count for Eq. (12)."""
        setter = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, _: self.epoch.assign(e))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(setter)
        else:
            callbacks = [setter, *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)

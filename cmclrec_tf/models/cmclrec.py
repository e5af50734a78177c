"""Stage 2: CMCLRec, a backbone that reads real or simulated histories, Eqs. (12)-(14) and (16)."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.config import Config
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.losses.next_item import soft_next_item
from cmclrec_tf.models import ablations
from cmclrec_tf.models.cold_rows import choose, keyed_uniform, without_history
from cmclrec_tf.models.cross_modal import CrossModalMapper
from cmclrec_tf.models.pretrain import LOSSES, pretrain_losses
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import FIRST_ID, PAD, Schema
from cmclrec_tf.types import (
    Batch,
    BoolB,
    BoolBL,
    Features,
    FloatB,
    FloatBD,
    FloatBLD,
    FloatBN,
    FloatBND,
    FloatBV,
    IdsBL,
    IdsBN,
    KeysB,
    Losses,
    Users,
)

REC_LOSSES = ("loss/warm", "loss/cold", "loss/next_item", "loss/backbone")


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
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, config, ("loss", *LOSSES, *REC_LOSSES), **kwargs)
        self.mapper = mapper or ablations.create(schema, config.model, config.data.max_history)
        self._build(self.mapper.items, config.seed + 1)
        # Which users are flagged cold changes with the epoch, in the same way in every run.
        self.epoch = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="epoch"
        )

    def call(self, batch: Users, training: bool | None = None) -> FloatBD:
        """Returns the user states g_{L-1} [B, D]: from T_s, or from T_s' where `is_cold`."""
        t_s, _, simulated = self.mapper(batch, training=training)
        x, mask = self._backbone_input(batch["is_cold"], simulated, t_s, batch["history"])
        return self.backbone.state(x, mask, training=training)

    def _backbone_input(
        self, is_cold: BoolB, simulated: FloatBLD, t_s: FloatBND, history: IdsBN
    ) -> tuple[FloatBLD, BoolBL]:
        """Eq. (13): returns the input of the backbone, x [B, L, D] and mask [B, L].

        A batch may hold histories of N <= L positions; they are padded on the left to L. Of the
        simulated positions the mask keeps the newest `model.simulated`.
        """
        length = simulated.shape[1]
        missing = length - ops.shape(t_s)[1]
        t_s = ops.pad(t_s, [[0, 0], [missing, 0], [0, 0]])
        real = ops.pad(history, [[0, 0], [missing, 0]], constant_values=PAD) != PAD
        newest = ops.arange(length) >= length - self.config.model.simulated_positions(length)
        mask = choose(is_cold, ops.broadcast_to(newest[None], ops.shape(real)), real)
        return choose(is_cold, simulated, t_s), mask

    def simulated_states(self, simulated: FloatBLD, training: bool | None = None) -> FloatBD:
        """Returns user states [B, D] from the newest `model.simulated` positions of T_s' [B, L, D].

        The states equal those of `call`, which masks the older positions: a shorter sequence costs
        less.
        """
        count = self.config.model.simulated_positions(simulated.shape[1])
        simulated = newest_positions(simulated, count)
        mask = ops.ones(ops.shape(simulated)[:2], dtype="bool")
        return self.backbone.state(simulated, mask, training=training)

    def embed(
        self, history: IdsBL, hidden: BoolBL | None = None, training: bool | None = None
    ) -> FloatBLD:
        """Returns T_s [B, L, D] of histories [B, L]; a mask vector stands for hidden items."""
        vector = self.backbone.mask_vector
        return self.mapper.history_side(history, hidden, vector, training=training)

    def warm_states(self, history: IdsBL) -> FloatBD:
        """Returns user states [B, D] from histories [B, L]; user features are not read."""
        t_s = self.embed(history, training=False)
        return self.backbone.state(t_s, history != PAD, training=False)

    def cold_states(self, features: Features) -> FloatBD:
        """Returns user states [B, D] from user features, by the simulated history."""
        simulated = self.mapper.simulate(self.mapper.feature_side(features))
        return self.simulated_states(simulated, training=False)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Returns `loss`, which is Eq. (16) plus the backbone's auxiliary loss, and its parts.

        Training alone calls it; validation reports what `validation_of` returns.
        """
        settings = self.config.finetune
        is_cold = ops.logical_or(self._cold_flags(batch["user_key"]), batch["is_cold"])
        cold_targets = self._cold_targets(batch)  # from the whole history, before it is removed
        batch = without_history(batch, is_cold)
        warm = ops.cast(ops.logical_not(is_cold), "float32")
        t_s, t_f, simulated = self.mapper(batch, training=training)
        pre: Losses = {"loss/pretrain": 0.0}
        if settings.eta:
            pre = pretrain_losses(
                self.mapper,
                batch,
                (t_s, t_f, simulated),
                self.config.pretrain,
                self.seed,
                warm,
                training,
            )
        if training and settings.feature_dropout:
            # L_pre reads all fields; the cold path learns to do without some of them.
            simulated = self._simulate_with_dropout(batch["features"])
        rec = self._recommendation_losses(batch, t_s, simulated, cold_targets, warm, training)
        total = settings.eta * pre["loss/pretrain"] + rec["loss/next_item"] + rec["loss/backbone"]
        return {**pre, **rec, "loss": total}

    def _cold_flags(self, user_key: KeysB) -> BoolB:
        """Eq. (12) in training: flags users as cold by a keyed hash of user and epoch, bool [B].

        With `cold_rows: both` no user is flagged, as every row is trained on both paths.
        """
        settings = self.config.finetune
        if settings.cold_rows == "both":
            return ops.zeros_like(user_key, dtype="bool")
        return keyed_uniform(user_key, self.epoch, self.config.seed) < settings.cold_share

    def _cold_targets(self, batch: Batch) -> FloatBV:
        """Returns the target of a cold row: a distribution over items, [B, V].

        An item that is k events older than the next item weighs cold_decay^k. With a decay of 0
        the next item alone counts, as 0^0 = 1.
        """
        next_item = batch["target"][:, :1]
        items = ops.concatenate([batch["history"], next_item], axis=1)  # [B, N+1]
        age = ops.cast(ops.arange(ops.shape(items)[1])[::-1], "float32")
        weights = ops.broadcast_to(self.config.finetune.cold_decay**age, ops.shape(items))
        return _shares(items, weights, self.schema.items)

    def _simulate_with_dropout(self, features: Features) -> FloatBLD:
        """Returns T_s' from features, some fields masked: it must not rely on a single field."""
        n_rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        rate = self.config.finetune.feature_dropout
        dropped = augment.drop_fields(n_rows, fields, rate, self.seed)
        return self.mapper.simulate(self.mapper.feature_side(features, dropped))

    def _recommendation_losses(
        self,
        batch: Batch,
        t_s: FloatBND,
        simulated: FloatBLD,
        cold_targets: FloatBV,
        warm: FloatB,
        training: bool | None,
    ) -> Losses:
        """Eq. (14) over warm and cold rows; mean over the users of the batch.

        `g_warm` [B, N, D] are the states at the positions that are learned, of all rows; `g_cold`
        [B, D] the states after the simulated histories. `warm` and `cold` [B] are 1 where a row's
        loss on that path counts.
        """
        settings, history = self.config.finetune, batch["history"]
        if settings.cold_rows == "both":
            # Every row is trained on the cold path, and on the warm one if it has a history.
            g_warm = self.learned_states(t_s, history != PAD, training)
            g_cold = self.simulated_states(simulated, training)
            cold = ops.ones_like(warm)
        else:
            # Every row is trained on one path.
            x, mask = self._backbone_input(warm == 0, simulated, t_s, history)
            g_warm = self.learned_states(x, mask, training)
            g_cold = g_warm[:, -1]
            cold = 1.0 - warm
        loss_warm = self.history_loss(g_warm, history, batch["target"], warm, training)
        if settings.distill and training:
            # The cold path also learns the warm path's prediction for the same user, if there is a
            # history. A flagged row has none left, so with `cold_rows: flagged` nothing is learned
            # this way.
            prediction = ops.softmax(ops.stop_gradient(self.score(g_warm[:, -1])))
            weight = settings.distill * warm[:, None]
            cold_targets = (1.0 - weight) * cold_targets + weight * prediction
        loss_cold = replicas.mean(soft_next_item(self.score(g_cold), cold_targets) * cold)
        return {
            "loss/warm": loss_warm,
            "loss/cold": loss_cold,
            "loss/next_item": loss_warm + settings.cold_weight * loss_cold,
            "loss/backbone": self.backbone.auxiliary_loss(t_s, history != PAD) if training else 0.0,
        }

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Fits as `keras.Model.fit` does, and sets `epoch` to Keras's count for Eq. (12)."""
        setter = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, _: self.epoch.assign(e))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(setter)
        else:
            callbacks = [setter, *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)


def _shares(ids: IdsBN, weights: FloatBN, size: int) -> FloatBV:
    """Spreads each row's weights over its known items, scaled to a sum of 1: float32 [B, size]."""
    weights = ops.where(ids >= FIRST_ID, weights, 0.0)
    n_rows = ops.shape(ids)[0]
    # The place of (row, item) in the flat [B * V].
    place = ids + size * ops.arange(n_rows, dtype=ids.dtype)[:, None]
    total = tf.math.unsorted_segment_sum(weights, place, n_rows * size)
    total = ops.reshape(total, (-1, size))
    return total / ops.maximum(ops.sum(total, axis=1, keepdims=True), 1e-9)

"""Stage 2: CMCLRec, the mapper in front of a backbone, Eqs. (12)-(14) and (16)."""

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf import augment, backbones
from cmclrec_tf.losses.next_item import next_item
from cmclrec_tf.models import ranking
from cmclrec_tf.models.cross_modal import CrossModalMapper
from cmclrec_tf.models.pretrain import LOSSES, pretrain_losses
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import PAD

METRICS = ("ndcg_warm", "ndcg_cold", "ndcg")


def choose(is_cold, simulated, real):
    """Eq. (13): X = flag T_s' + (1 - flag) T_s, per row and without a gradient to the other one.

    Args:
        is_cold: bool [B], Eq. (12).
        simulated, real: [B, L, ...].
    """
    flag = ops.reshape(is_cold, (-1,) + (1,) * (len(real.shape) - 1))
    return ops.where(flag, simulated, real)


@keras.saving.register_keras_serializable("cmclrec_tf")
class CMCLRec(StagedModel):
    """Stage 2 of Algorithm 1: L_fine = eta L_pre + L_rec.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.
        mapper: the stage 1 mapper; a new one when None.

    Example:
        >>> model = CMCLRec(data.schema, config, mapper=stage1.mapper)
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> model.fit(data.batches("train", 64), validation_data=data.batches("val", 256))
    """

    def __init__(self, schema, config, mapper=None, **kwargs):
        super().__init__(("loss", *LOSSES, "loss/next_item", *METRICS), **kwargs)
        self.schema, self.config = schema, config
        length = config.data.max_history
        self.mapper = mapper or CrossModalMapper(schema, config.model, length, name="mapper")
        self.backbone = backbones.create(config.model.backbone, length, config.model)
        self.seed = keras.random.SeedGenerator(config.seed + 1)
        # Which users are flagged cold changes with the epoch, the same way in every run.
        self.epoch = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="epoch"
        )

    def call(self, batch, training=None):
        """batch -> the user states g_{L-1} [B, D]: from the history, or simulated where is_cold."""
        t_s, _, simulated = self.mapper(batch, training=training)
        return self.encode(batch["is_cold"], simulated, t_s, batch["history"], training)[:, -1]

    def encode(self, is_cold, simulated, t_s, history, training=None):
        """Eq. (13), then R(.): -> G [B, L, D]. A simulated history has no padding."""
        x = choose(is_cold, simulated, t_s)
        mask = choose(is_cold, ops.ones_like(history, dtype="bool"), history != PAD)
        return self.backbone(x, mask, training=training)

    def warm_states(self, history):
        """history ids [B, L] -> user states [B, D], without a look at user features."""
        t_s = self.mapper.history_side(history, training=False)
        return self.backbone(t_s, history != PAD, training=False)[:, -1]

    def cold_states(self, features):
        """user features -> user states [B, D], from the simulated history."""
        simulated = self.mapper.simulate(self.mapper.feature_side(features))
        mask = ops.ones(ops.shape(simulated)[:2], dtype="bool")
        return self.backbone(simulated, mask, training=False)[:, -1]

    def score(self, states):
        """states [..., D] -> scores of all items [..., V]; PAD and OOV are never recommended."""
        table = ops.cast(self.mapper.items.embeddings, states.dtype)
        scores = ops.cast(ops.matmul(states, ops.transpose(table)), "float32")
        return ops.where(ops.arange(self.schema.items) > 1, scores, -1e9)

    def recommend(self, batch, k):
        """batch -> ids of the K best items [B, K], those of the history left out."""
        scores = self.score(self(batch, training=False))
        history = ops.where(batch["is_cold"][:, None], PAD, batch["history"])
        return ranking.top_k(ranking.shut_out(scores, history), k)[1]

    def losses_of(self, batch, training=None):
        settings = self.config.finetune
        flagged = ops.logical_or(self._flagged(batch["user_key"]), batch["is_cold"])
        labels, any_item = _labels(batch), self._any_item(batch)
        batch = without_history(batch, flagged)
        warm = ops.cast(ops.logical_not(flagged), "float32")
        mapped = self.mapper(batch, training=training)
        pre = pretrain_losses(
            self.mapper, batch, mapped, self.config.pretrain, self.seed, warm, training
        )
        if training:
            mapped = (*mapped[:2], self._simulate_with_dropout(batch["features"]))
        batch = {**batch, "any_item": any_item}
        rec = self._recommendation_loss(batch, mapped, labels, flagged, training)
        return {
            **pre,
            "loss/next_item": rec,
            "loss": settings.eta * pre["loss/pretrain"] + rec,  # Eq. (16)
        }

    def _flagged(self, user_key):
        """Eq. (12) in training: bool [B], a keyed hash of user and epoch; nobody under `both`."""
        settings = self.config.finetune
        if settings.cold_rows == "both":
            return ops.zeros_like(user_key, dtype="bool")
        return keyed_uniform(user_key, self.epoch, self.config.seed) < settings.cold_share

    def _any_item(self, batch):
        """One item of each user, drawn from the history and the target: int [B]."""
        items = ops.concatenate([batch["history"], batch["target"][:, :1]], axis=1)  # [B, L+1]
        n = ops.sum(ops.cast(batch["history"] != PAD, "float32"), axis=1) + 1
        back = ops.floor(keras.random.uniform(ops.shape(n), seed=self.seed) * n * 0.999999)
        place = ops.shape(items)[1] - 1 - ops.cast(back, "int32")
        return ops.squeeze(ops.take_along_axis(items, place[:, None], axis=1), axis=1)

    def _simulate_with_dropout(self, features):
        """T_s' from features of which some fields are masked: a cold row must not need any one."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        dropped = augment.drop_fields(rows, fields, self.config.finetune.feature_dropout, self.seed)
        return self.mapper.simulate(self.mapper.feature_side(features, dropped))

    def _recommendation_loss(self, batch, mapped, labels, flagged, training):
        """Eq. (14) over warm and cold rows; mean over the users of the batch."""
        settings, history = self.config.finetune, batch["history"]
        t_s, _, simulated = mapped
        if settings.cold_rows == "both":
            # Every user twice: once warm, once cold.
            flags = ops.concatenate([flagged, ops.ones_like(flagged)])
            twice = [ops.concatenate([x, x]) for x in (simulated, t_s, history)]
            g_warm, g_cold = ops.split(self.encode(flags, *twice, training), 2)
            cold = ops.ones_like(flagged, dtype="float32")
        else:
            g_warm = g_cold = self.encode(flagged, simulated, t_s, history, training)
            cold = ops.cast(flagged, "float32")
        warm = 1.0 - ops.cast(flagged, "float32")
        return self._warm_loss(g_warm, labels, warm) + settings.cold_weight * self._cold_loss(
            g_cold, batch, cold, training
        )

    def _warm_loss(self, g, labels, rows):
        """Mean over the trained positions of the warm rows, times their share of the batch."""
        if self.config.model.positions == "last":
            g, labels = g[:, -1:], labels[:, -1:]
        known = ops.cast(labels > 1, "float32") * rows[:, None]
        loss = next_item(self.score(g), labels) * known
        return ops.sum(loss) / ops.maximum(ops.sum(known), 1.0) * ops.mean(rows)

    def _cold_loss(self, g, batch, rows, training):
        """Mean over the batch of the cold rows' loss at the user state."""
        scores = self.score(g[:, -1])
        loss = next_item(scores, batch["target"][:, 0])
        if training and self.config.finetune.cold_target == "mixed":
            loss = (loss + next_item(scores, batch["any_item"])) / 2
        return ops.mean(loss * rows)

    def test_metrics(self, batch):
        """NDCG of every validation user, asked once with the history and once without."""
        target, history = batch["target"][:, 0], batch["history"]
        asked = {
            "warm": (self.warm_states(history), history),
            "cold": (self.cold_states(batch["features"]), ops.zeros_like(history)),
        }
        values = {}
        for segment, (states, seen) in asked.items():
            scores = ranking.shut_out(self.score(states), seen)
            values[f"ndcg_{segment}"] = ranking.ndcg_of_one(scores, target, self.config.evaluate.k)
        values["ndcg"] = (values["ndcg_warm"] + values["ndcg_cold"]) / 2
        return values

    def fit(self, *args, callbacks=None, **kwargs):
        """As `keras.Model.fit`; keeps `epoch` in step with Keras's own count."""
        setter = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, _: self.epoch.assign(e))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(setter)
        else:
            callbacks = [setter, *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)


def without_history(batch, flagged):
    """The batch with the histories of the flagged rows removed; their targets remain."""
    return {**batch, "history": ops.where(flagged[:, None], PAD, batch["history"])}


def keyed_uniform(keys, epoch, seed):
    """A number in [0, 1) for each key, fixed by key, epoch and seed: float32 [B].

    Mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), in integers, since
    string hashes do not compile for accelerators.
    """
    golden = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = tf.cast(keys, tf.uint64)
    for part in (epoch, seed):
        state = state + golden * (tf.cast(part, tf.uint64) + 1)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            shifted = tf.bitwise.right_shift(state, tf.constant(shift, tf.uint64))
            state = tf.bitwise.bitwise_xor(state, shifted) * tf.constant(factor, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(state, tf.constant(40, tf.uint64)), tf.float32) / 2**24


def _labels(batch):
    """The next item of every position: the history shifted by one, then the target [B, L]."""
    shifted = ops.concatenate([batch["history"][:, 1:], batch["target"][:, :1]], axis=1)
    # A padded position predicts nothing, not even the first real item.
    last = ops.concatenate(
        [batch["history"][:, :-1] != PAD, ops.ones_like(batch["target"][:, :1], dtype="bool")],
        axis=1,
    )
    return ops.where(last, shifted, PAD)

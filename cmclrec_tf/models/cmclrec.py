"""Stage 2: CMCLRec, the mapper in front of a backbone, Eqs. (12)-(14) and (16)."""

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.losses.next_item import soft_next_item
from cmclrec_tf.models import ablations
from cmclrec_tf.models.pretrain import LOSSES, pretrain_losses
from cmclrec_tf.models.recommender import Recommender
from cmclrec_tf.schema import FIRST_ID, PAD

REC_LOSSES = ("loss/warm", "loss/cold", "loss/next_item", "loss/backbone")


def choose(is_cold, simulated, real):
    """Eq. (13): X = flag T_s' + (1 - flag) T_s, per row and without a gradient to the other one.

    Args:
        is_cold: bool [B], Eq. (12).
        simulated, real: [B, L, ...].
    """
    flag = ops.reshape(is_cold, (-1,) + (1,) * (len(real.shape) - 1))
    return ops.where(flag, simulated, real)


@keras.saving.register_keras_serializable("cmclrec_tf")
class CMCLRec(Recommender):
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
        super().__init__(schema, config, ("loss", *LOSSES, *REC_LOSSES), **kwargs)
        self.mapper = mapper or ablations.create(schema, config.model, config.data.max_history)
        self._build(self.mapper.items, config.seed + 1)
        # Which users are flagged cold changes with the epoch, the same way in every run.
        self.epoch = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="epoch"
        )

    def call(self, batch, training=None):
        """batch -> the user states g_{L-1} [B, D]: from the history, or simulated where is_cold."""
        t_s, _, simulated = self.mapper(batch, training=training)
        x, mask = self._choose(batch["is_cold"], simulated, t_s, batch["history"])
        return self.backbone.state(x, mask, training=training)

    def _choose(self, is_cold, simulated, t_s, history):
        """Eq. (13): what the backbone sees, x [B, L, D] and mask bool [B, L].

        t_s and history may be cut to n <= L positions.
        """
        length = simulated.shape[1]
        missing = length - ops.shape(t_s)[1]
        t_s = ops.pad(t_s, [[0, 0], [missing, 0], [0, 0]])
        real = ops.pad(history, [[0, 0], [missing, 0]], constant_values=PAD) != PAD
        used = ops.arange(length) >= length - self.config.model.simulated_positions(length)
        mask = choose(is_cold, ops.broadcast_to(used[None], ops.shape(real)), real)
        return choose(is_cold, simulated, t_s), mask

    def simulated_states(self, simulated, training=None):
        """T_s' [B, L, D] -> user states [B, D] of its newest `model.simulated` positions.

        There is no padding among them.
        """
        simulated = newest_positions(simulated, self.config.model.simulated_positions(simulated.shape[1]))
        whole = ops.ones(ops.shape(simulated)[:2], dtype="bool")
        return self.backbone.state(simulated, whole, training=training)

    def embed(self, history, hidden=None, training=None):
        """history ids [B, L], hidden bool [B, L] -> T_s [B, L, D], without the hidden items."""
        vector = self.backbone.mask_vector
        return self.mapper.history_side(history, hidden, vector, training=training)

    def warm_states(self, history):
        """history ids [B, L] -> user states [B, D], without a look at user features."""
        t_s = self.embed(history, training=False)
        return self.backbone.state(t_s, history != PAD, training=False)

    def cold_states(self, features):
        """user features -> user states [B, D], from the simulated history."""
        simulated = self.mapper.simulate(self.mapper.feature_side(features))
        return self.simulated_states(simulated, training=False)

    def losses_of(self, batch, training=None):
        settings = self.config.finetune
        flagged = ops.logical_or(self._flagged(batch["user_key"]), batch["is_cold"])
        answers = self._cold_answers(batch)
        batch = without_history(batch, flagged)
        warm = ops.cast(ops.logical_not(flagged), "float32")
        mapped = self.mapper(batch, training=training)
        pre = {"loss/pretrain": 0.0}
        if settings.eta:
            pre = pretrain_losses(
                self.mapper, batch, mapped, self.config.pretrain, self.seed, warm, training
            )
        if training and settings.feature_dropout:
            mapped = (*mapped[:2], self._simulate_with_dropout(batch["features"]))
        rec = self._recommendation_losses(batch, mapped, answers, warm, training)
        total = settings.eta * pre["loss/pretrain"] + rec["loss/next_item"] + rec["loss/backbone"]
        return {**pre, **rec, "loss": total}  # Eq. (16)

    def _flagged(self, user_key):
        """Eq. (12) in training: bool [B], a keyed hash of user and epoch; nobody under `both`."""
        settings = self.config.finetune
        if settings.cold_rows == "both":
            return ops.zeros_like(user_key, dtype="bool")
        return keyed_uniform(user_key, self.epoch, self.config.seed) < settings.cold_share

    def _cold_answers(self, batch):
        """What a cold row is trained on: shares of the items [B, V], the newest weighing most."""
        items = ops.concatenate([batch["history"], batch["target"][:, :1]], axis=1)  # [B, L+1]
        age = ops.cast(ops.arange(ops.shape(items)[1])[::-1], "float32")
        weights = ops.broadcast_to(self.config.finetune.cold_decay**age, ops.shape(items))
        return _shares(items, weights, self.schema.items)

    def _simulate_with_dropout(self, features):
        """T_s' from features of which some fields are masked: a cold row must not need any one."""
        rows, fields = ops.shape(next(iter(features.values())))[0], len(self.schema.features)
        dropped = augment.drop_fields(rows, fields, self.config.finetune.feature_dropout, self.seed)
        return self.mapper.simulate(self.mapper.feature_side(features, dropped))

    def _recommendation_losses(self, batch, mapped, answers, warm, training):
        """Eq. (14) over warm and cold rows; mean over the users of the batch."""
        settings, history = self.config.finetune, batch["history"]
        t_s, _, simulated = mapped
        if settings.cold_rows == "both":
            # Every user twice: once warm, once cold.
            g_warm = self.learned_states(t_s, history != PAD, training)
            g_cold = self.simulated_states(simulated, training)
            cold = ops.ones_like(warm)
        else:
            seen = self._choose(warm == 0, simulated, t_s, history)
            g_warm = self.learned_states(*seen, training)
            g_cold = g_warm[:, -1]
            cold = 1.0 - warm
        loss_warm = self.history_loss(g_warm, history, batch["target"], warm, training)
        if settings.distill and training:
            # What the warm way says of the same user; a row without a history has no such teacher.
            teacher = ops.softmax(ops.stop_gradient(self.score(g_warm[:, -1])))
            share = settings.distill * warm[:, None]
            answers = (1.0 - share) * answers + share * teacher
        loss_cold = replicas.mean(soft_next_item(self.score(g_cold), answers) * cold)
        return {
            "loss/warm": loss_warm,
            "loss/cold": loss_cold,
            "loss/next_item": loss_warm + settings.cold_weight * loss_cold,
            "loss/backbone": self.backbone.auxiliary_loss(t_s, history != PAD) if training else 0.0,
        }

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


def _shares(ids, weights, size):
    """Weights of each row's known items, summing to 1: ids, weights [B, n] -> float32 [B, size]."""
    weights = ops.where(ids >= FIRST_ID, weights, 0.0)
    rows = ops.shape(ids)[0]
    place = ids + size * ops.arange(rows, dtype=ids.dtype)[:, None]
    total = tf.math.unsorted_segment_sum(weights, place, rows * size)
    total = ops.reshape(total, (-1, size))
    return total / ops.maximum(ops.sum(total, axis=1, keepdims=True), 1e-9)

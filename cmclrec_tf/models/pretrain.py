"""Stage 1: the self-supervised training of the mapper, Eq. (15)."""

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.losses.info_nce import info_nce_rows
from cmclrec_tf.losses.mmd import mmd
from cmclrec_tf.losses.reconstruction import reconstruction_rows
from cmclrec_tf.models import ablations
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import PAD

LOSSES = (
    "loss/features",
    "loss/sequences",
    "loss/reconstruction_history",
    "loss/reconstruction_features",
    "loss/mmd",
    "loss/translation",
    "loss/pretrain",
)


def pretrain_losses(mapper, batch, mapped, config, seed, warm=None, training=None):
    """Eqs. (3), (4), (8), (9), (11), (15) on one batch.

    Args:
        mapper: the `CrossModalMapper`.
        batch: see `input.PreparedDataset.batches`.
        mapped: (T_s, T_f, T_s'), the mapper's answer to the batch.
        config: `PretrainConfig`.
        seed: `keras.random.SeedGenerator` of the views of Eq. (1).
        warm: [B], 1 for the rows that count; cold rows have no history to learn from.

    Returns:
        {name: scalar}, the weighted sum of Eq. (15) under `loss/pretrain`.
    """
    parts = {
        "contrast": lambda: _contrast(mapper, batch, config, seed, warm, training),
        "cross_modal": lambda: _cross_modal(mapper, batch, mapped, config, warm),
        "translation": lambda: _translation(batch, mapped, config, warm),
    }
    losses = {}
    for name in mapper.objectives:
        losses |= parts[name]()
    weights = {
        "loss/features": config.alpha,
        "loss/sequences": config.beta,
        "loss/reconstruction_history": 1.0,
        "loss/reconstruction_features": 1.0,
        "loss/mmd": config.cross,  # Eqs. (9), (11)
        "loss/translation": config.cross,
    }
    total = sum(weights[name] * loss for name, loss in losses.items())
    return {**losses, "loss/pretrain": total}  # Eq. (15)


def _contrast(mapper, batch, config, seed, warm, training):
    """Eqs. (3) and (4)."""
    history, features = batch["history"], batch["features"]
    rows, fields = ops.shape(history)[0], len(mapper.schema.features)

    # Both views go through the shared encoder in one call, stacked along the batch.
    masks = ops.concatenate(augment.disjoint_field_masks(rows, fields, config.mask_share, seed))
    h_f = mapper.encode_features({n: _twice(v) for n, v in features.items()}, masks)
    view_f = ops.split(ops.mean(h_f, axis=1), 2)  # 2 x [B, D]

    (ids1, masked1), (ids2, masked2) = augment.history_views(history, seed)
    ids, masked = ops.concatenate([ids1, ids2]), ops.concatenate([masked1, masked2])
    h_s = mapper.encode_history(ids, masked, training=training)
    view_s = ops.split(masked_mean(h_s, ids != PAD), 2)  # 2 x [B, D]
    return {
        "loss/features": _info_nce(*view_f, config.temperature, batch["profile_key"], warm),
        "loss/sequences": _info_nce(*view_s, config.temperature, batch["user_key"], warm),
    }


def _info_nce(view1, view2, temperature, keys, weights):
    """Eqs. (3), (4) with the users of all replicas as negatives; the replica's share."""
    all_view2 = replicas.gathered(ops.cast(view2, "float32"))  # not in half precision
    rows = info_nce_rows(
        view1,
        all_view2,
        temperature,
        replicas.itself(ops.shape(view1)[0], ops.shape(all_view2)[0]),
        keys,
        replicas.gathered(keys),
        None if weights is None else replicas.gathered(weights),
    )
    return replicas.mean(rows, weights)


def _cross_modal(mapper, batch, mapped, config, warm):
    """Eqs. (8) and (9)."""
    t_s, t_f, _ = mapped
    real = batch["history"] != PAD
    p_s, p_f = mapper.auto_s.encode(t_s, real), mapper.auto_f.encode(t_f)  # [B, Z]
    fixed = _fixed(config)
    # Decoders speak of all L positions; a batch may have been cut to its longest history.
    decoded = newest_positions(mapper.auto_s.decode(p_s), ops.shape(real)[1])
    decoded_f = mapper.auto_f.decode(p_f)
    return {
        "loss/reconstruction_history": replicas.mean(
            reconstruction_rows(decoded, fixed(t_s), real, config.reduction), warm
        ),
        "loss/reconstruction_features": replicas.mean(
            reconstruction_rows(decoded_f, fixed(t_f), reduction=config.reduction), warm
        ),
        "loss/mmd": _mmd(p_s, p_f, warm),
        **_translation(batch, mapped, config, warm),
    }


def _mmd(p_s, p_f, weights):
    """Eq. (9), first term. It is not a sum over rows: each replica computes it on all of them."""
    all_weights = None if weights is None else replicas.gathered(weights)
    return replicas.shared(mmd(replicas.gathered(p_s), replicas.gathered(p_f), all_weights))


def _translation(batch, mapped, config, warm):
    """The second half of Eq. (9): T_s' against T_s."""
    t_s, _, simulated = mapped
    real = batch["history"] != PAD
    simulated = newest_positions(simulated, ops.shape(real)[1])
    errors = reconstruction_rows(simulated, _fixed(config)(t_s), real, config.reduction)
    return {"loss/translation": replicas.mean(errors, warm)}


def _fixed(config):
    return ops.stop_gradient if config.targets == "fixed" else lambda x: x


def _twice(x):
    return ops.concatenate([x, x])


def masked_mean(x, mask):
    """Mean of x [B, n, D] over the real tokens, mask bool [B, n] -> [B, D]."""
    weight = ops.cast(mask[:, :, None], x.dtype)
    return ops.sum(x * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1)


@keras.saving.register_keras_serializable("cmclrec_tf")
class Pretrain(StagedModel):
    """Stage 1 of Algorithm 1: L_pre = alpha L_f + beta L_s + L_c2l on warm users only.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.

    Example:
        >>> stage1 = Pretrain(data.schema, config)
        >>> stage1.compile(keras.optimizers.Adam(1e-3))
        >>> stage1.fit(data.batches("train", 128), epochs=20)
    """

    def __init__(self, schema, config, **kwargs):
        super().__init__(("loss", *LOSSES), **kwargs)
        self.schema, self.config = schema, config
        self.mapper = ablations.create(schema, config.model, config.data.max_history)
        self.seed = keras.random.SeedGenerator(config.seed)

    def call(self, batch, training=None):
        """batch -> (T_s, T_f, T_s')."""
        return self.mapper(batch, training=training)

    def losses_of(self, batch, training=None):
        mapped = self.mapper(batch, training=training)
        warm = ops.cast(ops.logical_not(batch["is_cold"]), "float32")
        losses = pretrain_losses(
            self.mapper, batch, mapped, self.config.pretrain, self.seed, warm, training
        )
        return {**losses, "loss": losses["loss/pretrain"]}

"""Stage 1: trains the mapper by self-supervision, Eq. (15)."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.config import Config, PretrainConfig
from cmclrec_tf.layers.masking import newest_positions
from cmclrec_tf.losses.info_nce import info_nce_rows
from cmclrec_tf.losses.mmd import mmd
from cmclrec_tf.losses.reconstruction import reconstruction_rows
from cmclrec_tf.models import ablations
from cmclrec_tf.models.cross_modal import CrossModalMapper
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import PAD, Schema
from cmclrec_tf.types import (
    Batch,
    BoolBN,
    FloatB,
    FloatBD,
    FloatBMD,
    FloatBND,
    FloatBSD,
    FloatBZ,
    KeysB,
    Losses,
    Scalar,
    Seed,
    Tensor,
    Users,
)

LOSSES = (
    "loss/features",
    "loss/sequences",
    "loss/reconstruction_history",
    "loss/reconstruction_features",
    "loss/mmd",
    "loss/translation",
    "loss/codes",
    "loss/pretrain",
)


@keras.saving.register_keras_serializable("cmclrec_tf")
class Pretrain(StagedModel):
    """Stage 1 of Algorithm 1: trains a `CrossModalMapper` by L_pre, Eq. (15).

    L_pre = alpha L_f + beta L_s + L_c2l. L_f and L_s (Eqs. 3, 4) bring two augmented views of one
    user together. L_c2l (Eq. 11) makes the simulated history T_s' look like the real one, T_s. Only
    users with a history count.

    `fit` takes batches of `PreparedDataset.batches`. `call` returns (T_s, T_f, T_s'), see the
    mapper. After the fit, pass `mapper` to `CMCLRec`.

    Args:
        schema: `Schema` with vocabulary sizes.
        config: `Config`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data, config = toy_dataset(), cm.Config.preset("tiny")
        >>> stage1 = cm.Pretrain(data.schema, config)
        >>> stage1.compile(keras.optimizers.Adam(1e-3))
        >>> log = stage1.fit(data.batches("train", 128), epochs=1, verbose=0)
        >>> model = cm.CMCLRec(data.schema, config, mapper=stage1.mapper)
    """

    def __init__(self, schema: Schema, config: Config, **kwargs: Any) -> None:
        super().__init__(("loss", *LOSSES), **kwargs)
        self.schema, self.config = schema, config
        self.mapper = ablations.create(schema, config.model, config.data.max_history)
        self.seed = keras.random.SeedGenerator(config.seed)

    def call(
        self, batch: Users, training: bool | None = None
    ) -> tuple[FloatBND, FloatBMD, FloatBSD]:
        """Returns (T_s, T_f, T_s') of the mapper."""
        return self.mapper(batch, training=training)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Eq. (15) over the warm rows, and its parts."""
        mapped = self.mapper(batch, training=training)
        warm = ops.cast(ops.logical_not(batch["is_cold"]), "float32")
        losses = pretrain_losses(
            self.mapper, batch, mapped, self.config.pretrain, self.seed, warm, training
        )
        return {**losses, "loss": losses["loss/pretrain"]}


def pretrain_losses(
    mapper: CrossModalMapper,
    batch: Batch,
    mapped: tuple[FloatBND, FloatBMD, FloatBSD],
    config: PretrainConfig,
    seed: Seed,
    warm: FloatB | None = None,
    training: bool | None = None,
) -> Losses:
    """Eqs. (3), (4), (8), (9), (11), (15): the losses of stage 1 on one batch.

    Args:
        mapper: the `CrossModalMapper`; its `objectives` choose the losses.
        batch: from `PreparedDataset.batches`.
        mapped: (T_s, T_f, T_s'), the mapper's output for the batch.
        config: `PretrainConfig`.
        seed: a `keras.random.SeedGenerator` that seeds the views of Eq. (1).
        warm: float [B], 1 for rows that count; a cold row has no history to learn from. None
            counts all rows.
        training: as in Keras.

    Returns:
        {name: scalar}, with the weighted sum of Eq. (15) under `loss/pretrain`.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema, config = cm.Schema((cm.Feature("city", size=4),), items=6), cm.Config()
        >>> mapper = cm.CrossModalMapper(schema, config.model, length=2)
        >>> batch = {
        ...     "history": ops.array([[0, 5], [4, 5]]),
        ...     "features": {"city": ops.array([[2], [3]])},
        ...     "user_key": ops.array([1, 2]),
        ...     "profile_key": ops.array([1, 2]),
        ... }
        >>> seed = keras.random.SeedGenerator(0)
        >>> sorted(pretrain_losses(mapper, batch, mapper(batch), config.pretrain, seed))[:2]
        ['loss/features', 'loss/mmd']
    """
    parts = {
        "contrast": lambda: _contrast(mapper, batch, config, seed, warm, training),
        "cross_modal": lambda: _cross_modal(mapper, batch, mapped, config, warm),
        "translation": lambda: _translation(batch, mapped, config, warm),
    }
    losses: Losses = {}
    for name in mapper.objectives:
        losses |= parts[name]()
    weights = {
        "loss/features": config.alpha,
        "loss/sequences": config.beta,
        "loss/reconstruction_history": 1.0,
        "loss/reconstruction_features": 1.0,
        "loss/mmd": config.cross,  # Eqs. (9), (11)
        "loss/translation": config.cross,
        "loss/codes": config.contrast,
    }
    total = sum(weights[name] * loss for name, loss in losses.items())
    return {**losses, "loss/pretrain": total}  # Eq. (15)


def _contrast(
    mapper: CrossModalMapper,
    batch: Batch,
    config: PretrainConfig,
    seed: Seed,
    warm: FloatB | None,
    training: bool | None,
) -> Losses:
    """Eqs. (3) and (4): the contrastive losses of features and histories."""
    history, features = batch["history"], batch["features"]
    rows, fields = ops.shape(history)[0], len(mapper.schema.features)

    # Both views pass the shared encoder in one call, stacked along the batch.
    masks = ops.concatenate(augment.disjoint_field_masks(rows, fields, config.mask_share, seed))
    h_f = mapper.encode_features({n: _twice(v) for n, v in features.items()}, masks)
    features1, features2 = ops.split(ops.mean(h_f, axis=1), 2)  # [B, D]

    (ids1, masked1), (ids2, masked2) = augment.history_views(history, seed)
    ids, masked = ops.concatenate([ids1, ids2]), ops.concatenate([masked1, masked2])
    h_s = mapper.encode_history(ids, masked, training=training)
    history1, history2 = ops.split(masked_mean(h_s, ids != PAD), 2)  # [B, D]
    tau = config.temperature
    return {
        "loss/features": in_batch_contrast(features1, features2, tau, batch["profile_key"], warm),
        "loss/sequences": in_batch_contrast(history1, history2, tau, batch["user_key"], warm),
    }


def in_batch_contrast(
    view1: FloatBD, view2: FloatBD, temperature: float, keys: KeysB, weights: FloatB | None
) -> Scalar:
    """Eqs. (3), (4) with the users of all replicas as negatives; returns the replica's share.

    Args: see `info_nce`.

    Example:
        >>> views = ops.eye(2)  # two users at right angles
        >>> loss = in_batch_contrast(views, views, 1.0, keys=ops.array([1, 2]), weights=None)
        >>> round(float(loss), 4)  # log(1 + 1 / e)
        0.3133
    """
    all_view2 = replicas.gather(ops.cast(view2, "float32"))  # not in half precision
    rows = info_nce_rows(
        view1,
        all_view2,
        temperature,
        replicas.same_row(ops.shape(view1)[0], ops.shape(all_view2)[0]),
        keys,
        replicas.gather(keys),
        None if weights is None else replicas.gather(weights),
    )
    return replicas.mean(rows, weights)


def _cross_modal(
    mapper: CrossModalMapper,
    batch: Batch,
    mapped: tuple[FloatBND, FloatBMD, FloatBSD],
    config: PretrainConfig,
    warm: FloatB | None,
) -> Losses:
    """Eqs. (8) and (9): reconstruction, MMD between the codes, and translation.

    With `contrast` also the contrastive loss between the codes of a user.
    """
    t_s, t_f, _ = mapped
    real = batch["history"] != PAD
    p_s, p_f = mapper.auto_s.encode(t_s, real), mapper.auto_f.encode(t_f)  # [B, Z]
    decoded_s, decoded_f = mapper.auto_s.decode(p_s), mapper.auto_f.decode(p_f)
    codes: Losses = {}
    if config.contrast:
        keys = batch["profile_key"]
        codes["loss/codes"] = in_batch_contrast(p_f, p_s, config.temperature, keys, warm)
    return {
        **codes,
        "loss/reconstruction_history": _against_history(decoded_s, t_s, real, config, warm),
        "loss/reconstruction_features": _reconstruction(decoded_f, t_f, None, config, warm),
        "loss/mmd": _mmd(p_s, p_f, warm),
        **_translation(batch, mapped, config, warm),
    }


def _mmd(p_s: FloatBZ, p_f: FloatBZ, weights: FloatB | None) -> Scalar:
    """Eq. (9), first term. It is not a sum over rows: each replica computes it on all of them."""
    all_weights = None if weights is None else replicas.gather(weights)
    return replicas.share_of(mmd(replicas.gather(p_s), replicas.gather(p_f), all_weights))


def _translation(
    batch: Batch,
    mapped: tuple[FloatBND, FloatBMD, FloatBSD],
    config: PretrainConfig,
    warm: FloatB | None,
) -> Losses:
    """Eq. (9), second term: T_s' against T_s."""
    t_s, _, simulated = mapped
    real = batch["history"] != PAD
    return {"loss/translation": _against_history(simulated, t_s, real, config, warm)}


def _against_history(
    predicted: FloatBSD,
    t_s: FloatBND,
    real: BoolBN,
    config: PretrainConfig,
    warm: FloatB | None,
) -> Scalar:
    """Compares S positions with the newest ones of the real history, which may be fewer."""
    count = predicted.shape[1]
    t_s, real = newest_positions(t_s, count), newest_positions(real, count)
    predicted = newest_positions(predicted, ops.shape(real)[1])
    return _reconstruction(predicted, t_s, real, config, warm)


def _reconstruction(
    predicted: FloatBND,
    target: FloatBND,
    mask: BoolBN | None,
    config: PretrainConfig,
    warm: FloatB | None,
) -> Scalar:
    """Eq. (8); returns the replica's share. With `targets: fixed` targets get no gradient."""
    if config.targets == "fixed":
        target = ops.stop_gradient(target)
    return replicas.mean(reconstruction_rows(predicted, target, mask, config.reduction), warm)


def _twice(x: Tensor) -> Tensor:
    return ops.concatenate([x, x])


def masked_mean(x: FloatBND, mask: BoolBN) -> FloatBD:
    """Returns the mean of x [B, N, D] over the positions where mask [B, N] is True.

    Example:
        >>> x, mask = ops.array([[[9.0], [1.0], [3.0]]]), ops.array([[False, True, True]])
        >>> float(masked_mean(x, mask)[0, 0])
        2.0
    """
    weight = ops.cast(mask[:, :, None], x.dtype)
    return ops.sum(x * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1)

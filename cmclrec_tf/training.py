"""Trains CMCLRec in two stages (Algorithm 1), or its backbone alone, on a prepared dataset."""

from typing import TYPE_CHECKING, Any

import keras

from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.callbacks import LIKELIHOOD
from cmclrec_tf.config import Config, FinetuneConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.fitting import EVAL_BATCH, NDCG, Folder, Stage, fit_stage, users_of
from cmclrec_tf.models import CMCLRec, CrossModalMapper, PlainRecommender, Pretrain
from cmclrec_tf.models.expert import LOG_PROBABILITY, ExpertTrainer, FeatureExpert
from cmclrec_tf.models.prior_fit import count_popularity, fit_prior
from cmclrec_tf.models.staged import dtype_policy
from cmclrec_tf.schema import TRAIN, VAL

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.warm_start import WarmStart


def train(
    dataset: "PreparedDataset",
    config: Config | None = None,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
    start: "WarmStart | None" = None,
) -> CMCLRec:
    """Algorithm 1: fits stage 1, then stage 2, and keeps the weights of the best validation NDCG.

    Under `strategy.scope()` of a mirrored strategy each replica takes its part of every batch. The
    batch size and the result stay those of one replica (docs/training.md). With several workers,
    each makes the same call, and the chief alone writes files.

    Args:
        dataset: `PreparedDataset` with a train and a val split.
        config: `Config`; None is the `default` preset.
        log_dir: folder for TensorBoard logs, in `log_dir/pretrain` and `log_dir/finetune`.
        checkpoint_dir: local folder for the state after every epoch. After a crash, the same call
            resumes from there and ends with the weights of an uninterrupted run.
        start: `WarmStart` with the weights that stage 2 begins with; stage 1 is then left out.

    Returns:
        The trained `CMCLRec`.

    Raises:
        InputError: the dataset was prepared with a shorter history than the config asks for, or
            has no train or val users; the checkpoints belong to another config or dataset, are used
            by another training, or differ between workers; `start` differs from the new model in
            more than vocabularies; Keras's dtype policy keeps weights in half precision.
        TrainingError: the loss became NaN or infinite.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> short = {"data.max_history": 6, "pretrain.epochs": 1, "finetune.epochs": 1}
        >>> model = cm.train(data, cm.Config.preset("tiny").changed(short))
        >>> batch = next(iter(data.batches("test", 8)))
        >>> model.recommend(batch, k=3).shape
        TensorShape([8, 3])
    """
    config, dataset = checked(dataset, config)
    if start:
        start.check(dataset.schema, config)
        return finetune(dataset, config, None, log_dir, checkpoint_dir, start)
    stage1 = pretrain(dataset, config, log_dir, checkpoint_dir)
    return finetune(dataset, config, stage1.mapper, log_dir, checkpoint_dir)


def pretrain(
    dataset: "PreparedDataset",
    config: Config,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
) -> Pretrain:
    """Stage 1: returns the fitted `Pretrain` model; its `mapper` goes into stage 2."""
    keras.utils.set_random_seed(config.seed)
    with dtype_policy(config.compute.precision):
        model = Pretrain(dataset.schema, config)
    fit_stage(model, dataset, config, Stage("pretrain", "pretrain"), log_dir, checkpoint_dir)
    return model


def finetune(
    dataset: "PreparedDataset",
    config: Config,
    mapper: CrossModalMapper | None = None,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
    start: "WarmStart | None" = None,
) -> CMCLRec:
    """Stage 2: returns the fitted `CMCLRec` with its best weights; `start` as in `train`."""
    expert = fit_expert(dataset, config, log_dir, checkpoint_dir)
    # Seeded again, so that the first weights do not depend on whether stage 1 ran in this process.
    keras.utils.set_random_seed(config.seed + 1)
    with dtype_policy(config.compute.precision):
        model = CMCLRec(dataset.schema, config, mapper, expert)
    monitor = LIKELIHOOD if config.model.popularity_prior else NDCG
    stage = Stage("finetune", "finetune", decay_feature_side, monitor)
    _fit_with_prior(model, dataset, config, stage, log_dir, checkpoint_dir, start)
    return model


def fit_expert(
    dataset: "PreparedDataset",
    config: Config,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
) -> FeatureExpert | None:
    """Returns the expert of `model.expert_width` with its best weights; None if there is none.

    It learns by the settings of `finetune`, with an order of batches and an early stop of its own,
    so that its errors are not those of the cold path.
    """
    if not config.model.has_expert:
        return None
    # The users of stage 2, chosen by its seed.
    users = users_of(dataset, config.finetune, config.seed)
    config = config.changed({"seed": config.seed + 2, "finetune.user_share": 1.0})
    keras.utils.set_random_seed(config.seed)
    with dtype_policy(config.compute.precision):
        model = ExpertTrainer(dataset.schema, config)
    model.log_popularity.assign(Popularity(users, "last").log_shares)
    stage = Stage("expert", "finetune", decay_all, f"val_{LOG_PROBABILITY}")
    fit_stage(model, users, config, stage, log_dir, checkpoint_dir)
    return model.expert


def train_plain(
    dataset: "PreparedDataset",
    config: Config | None = None,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
) -> PlainRecommender:
    """Fits the backbone alone, with the settings of `finetune`, to compare CMCLRec with.

    The weights of the best warm validation NDCG are kept. With `model.popularity_prior` it has a
    prior as well, and those of the best warm log-likelihood are kept. Args and errors: see `train`.

    Returns:
        The trained `PlainRecommender`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> short = {"data.max_history": 6, "finetune.epochs": 1}
        >>> model = cm.train_plain(toy_dataset(), cm.Config.preset("tiny").changed(short))
        >>> type(model).__name__
        'PlainRecommender'
    """
    config, dataset = checked(dataset, config)
    keras.utils.set_random_seed(config.seed)
    with dtype_policy(config.compute.precision):
        model = PlainRecommender(dataset.schema, config)
    monitor = f"{LIKELIHOOD}_warm" if config.model.popularity_prior else f"{NDCG}_warm"
    stage = Stage("plain", "finetune", averaged_adam, monitor)
    _fit_with_prior(model, dataset, config, stage, log_dir, checkpoint_dir)
    return model


def _fit_with_prior(
    model: CMCLRec | PlainRecommender,
    dataset: "PreparedDataset",
    config: Config,
    stage: Stage,
    log_dir: Folder | None,
    checkpoint_dir: Folder | None,
    start: "WarmStart | None" = None,
) -> None:
    """Fits a stage of a model, then the coefficients of its prior, if it has one."""
    users = users_of(dataset, config.finetune, config.seed)
    count_popularity(model, users)
    fit_stage(model, dataset, config, stage, log_dir, checkpoint_dir, start)
    fit_prior(model, users)


def validate(model: keras.Model, dataset: "PreparedDataset", config: Config) -> dict[str, float]:
    """Returns a trained model's metrics on the validation users; `ndcg` stops and tunes.

    Args:
        model: from `train`, `train_plain` or `baselines.training.train_baseline`.
        dataset: the `PreparedDataset` that it was trained on.
        config: its `Config`.
    """
    batches = dataset.read_by(config).batches(VAL, EVAL_BATCH)
    metrics = model.evaluate(batches, return_dict=True, verbose=0)
    return {name: float(value) for name, value in metrics.items()}


def checked(dataset: "PreparedDataset", config: Config | None) -> tuple[Config, "PreparedDataset"]:
    """Returns the config to use and the dataset cut to its histories; errors as in `train`."""
    config = config or Config.preset("default")
    with dtype_policy(config.compute.precision):
        policy = keras.config.dtype_policy()
    if policy.variable_dtype in ("float16", "bfloat16"):
        raise InputError(
            f"dtype policy {policy.name!r}",
            "weights of half precision lose the small steps of the optimizer",
            f"Take 'mixed_{policy.name}', which computes in it and keeps the weights in float32.",
        )
    dataset = dataset.read_by(config)
    for split in (TRAIN, VAL):
        if not dataset.users.get(split):
            raise InputError(
                f"split {split!r} of {dataset.name}", "training needs users in it", "Add some."
            )
    return config, dataset


def averaged_adam(model: keras.Model, settings: FinetuneConfig) -> keras.optimizers.Optimizer:
    """Returns Adam that keeps a moving average of the weights."""
    return keras.optimizers.Adam(settings.learning_rate, **_averaging(settings))


def decay_feature_side(model: CMCLRec, settings: FinetuneConfig) -> keras.optimizers.Optimizer:
    """Returns AdamW that decays only the mapper's feature side, which overfits first."""
    adam = decay_all(model, settings)
    decayed = {id(v) for layer in model.mapper.feature_layers for v in layer.trainable_variables}
    adam.exclude_from_weight_decay([v for v in model.trainable_variables if id(v) not in decayed])
    return adam


def decay_all(model: keras.Model, settings: FinetuneConfig) -> keras.optimizers.Optimizer:
    """Returns AdamW that decays all weights."""
    return keras.optimizers.AdamW(
        settings.learning_rate, weight_decay=settings.weight_decay, **_averaging(settings)
    )


def _averaging(settings: FinetuneConfig) -> dict[str, Any]:
    return {"use_ema": bool(settings.ema), "ema_momentum": settings.ema}

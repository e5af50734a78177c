"""The two-stage driver of Algorithm 1: one way to train, for the CLI, notebooks and pipelines."""

import math
import pathlib

import keras
import tensorflow as tf

from cmclrec_tf import baselines, replicas
from cmclrec_tf.callbacks import Averaged, Progress, Projector, SaveEpochs
from cmclrec_tf.checkpoints import Checkpoints, model_state, restore_model
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError, ReadableError
from cmclrec_tf.models import CMCLRec, PlainRecommender, Pretrain
from cmclrec_tf.schema import TRAIN, VAL

EVAL_BATCH = 256
BEST = "val_ndcg"


def train(dataset, config=None, log_dir=None, checkpoint_dir=None, start=None):
    """Stage 1 fit, then stage 2 fit; the weights of the best validation NDCG are kept.

    Within `strategy.scope()` of a mirrored strategy every replica takes its part of each batch;
    the batch size, and what is computed, stay those of one (docs/training.md). Every worker makes
    the same call; the chief alone writes.

    Args:
        dataset: `PreparedDataset` with a train and a val split.
        config: `Config`; the `default` preset when None.
        log_dir: TensorBoard logs go to `log_dir/pretrain` and `log_dir/finetune`.
        checkpoint_dir: local folder for the state after every epoch. The same call after a crash
            goes on from there, and ends with the weights that it would have had without.
        start: `warm_start.WarmStart` that stage 2 begins with, in the place of stage 1.

    Returns:
        The trained `CMCLRec`.

    Raises:
        InputError: the dataset was prepared with a shorter history than the config asks for, or
            has no train or val users; the checkpoints are of another config or dataset, or not
            the same ones for all workers; `start` is of a model that differs in more than its
            vocabularies.
        TrainingError: the loss became NaN or infinite.
    """
    config, dataset = checked(dataset, config)
    if start:
        start.check(dataset.schema, config)
        return finetune(dataset, config, None, log_dir, checkpoint_dir, start)
    stage1 = pretrain(dataset, config, log_dir, checkpoint_dir)
    return finetune(dataset, config, stage1.mapper, log_dir, checkpoint_dir)


class TrainingError(ReadableError):
    """Training went wrong for a reason that its config can mend."""


def checked(dataset, config):
    """The config that is used, and the dataset cut to its histories; errors as in `train`."""
    config = config or Config.preset("default")
    dataset = dataset.with_history(config.data.max_history)
    for split in (TRAIN, VAL):
        if not dataset.users.get(split):
            raise InputError(
                f"split {split!r} of {dataset.name}", "training needs users in it", "Add some."
            )
    return config, dataset


def pretrain(dataset, config, log_dir=None, checkpoint_dir=None):
    """Stage 1: fits and returns the `Pretrain` model."""
    keras.utils.set_random_seed(config.seed)
    model = Pretrain(dataset.schema, config)
    return _fit(model, dataset, config, "pretrain", log_dir=log_dir, checkpoint_dir=checkpoint_dir)


def finetune(dataset, config, mapper=None, log_dir=None, checkpoint_dir=None, start=None):
    """Stage 2: fits and returns the `CMCLRec` model, on its best weights; `start` as in `train`."""
    # Anew, so that the first weights do not depend on whether stage 1 ran in this process.
    keras.utils.set_random_seed(config.seed + 1)
    model = CMCLRec(dataset.schema, config, mapper)
    return _fit(
        model,
        dataset,
        config,
        "finetune",
        monitor=BEST,
        optimizer=decay_feature_side,
        log_dir=log_dir,
        checkpoint_dir=checkpoint_dir,
        start=start,
    )


def train_plain(dataset, config=None, log_dir=None, checkpoint_dir=None):
    """Fits the backbone alone, by the settings of `finetune`: what CMCLRec is compared with.

    Args, errors: see `train`. The weights of the best warm validation NDCG are kept.

    Returns:
        The trained `PlainRecommender`.
    """
    config, dataset = checked(dataset, config)
    keras.utils.set_random_seed(config.seed)
    return _fit(
        PlainRecommender(dataset.schema, config),
        dataset,
        config,
        "plain",
        part="finetune",
        monitor="val_ndcg_warm",
        optimizer=averaged_adam,
        log_dir=log_dir,
        checkpoint_dir=checkpoint_dir,
    )


def train_baseline(name, dataset, config=None, log_dir=None, checkpoint_dir=None):
    """Fits a baseline of another paper, by the settings of `finetune` and `baseline`.

    Args, errors: see `train`; `name` is one of `baselines.names()`. It takes one replica.

    Returns:
        The trained `baselines.base.Baseline`, on the weights of the best validation NDCG of both
        segments.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InputError(
            f"baseline {name!r}",
            "its losses are those of one replica",
            "Train it outside of the strategy's scope.",
        )
    config, dataset = checked(dataset, config)
    keras.utils.set_random_seed(config.seed)
    model = baselines.create(name, dataset.schema, config)
    model.prepare(dataset)
    return _fit(
        model,
        dataset,
        config,
        name,
        part="finetune",
        monitor=BEST,
        optimizer=averaged_adam,
        log_dir=log_dir,
        checkpoint_dir=checkpoint_dir,
    )


def validate(model, dataset, config):
    """A trained model's metrics on the validation users, `{name: float}`; `ndcg` stops and tunes.

    Args:
        model: what `train`, `train_plain` or `train_baseline` gave.
        dataset: the `PreparedDataset` that it was trained on.
        config: its `Config`.
    """
    batches = dataset.with_history(config.data.max_history).batches(VAL, EVAL_BATCH)
    found = model.evaluate(batches, return_dict=True, verbose=0)
    return {name: float(value) for name, value in found.items()}


def decay_feature_side(model, settings):
    """AdamW that decays the feature side of the mapper only: it overfits the fields first.

    Args:
        model: a built `CMCLRec`.
        settings: `FinetuneConfig`.
    """
    adam = keras.optimizers.AdamW(
        settings.learning_rate, weight_decay=settings.weight_decay, **_averaging(settings)
    )
    layers = model.mapper.feature_layers
    decayed = {id(v) for layer in layers for v in layer.trainable_variables}
    adam.exclude_from_weight_decay([v for v in model.trainable_variables if id(v) not in decayed])
    return adam


def plain_adam(model, settings):
    """Adam; `model` and `settings` as every maker of an optimizer takes them."""
    return keras.optimizers.Adam(settings.learning_rate)


def averaged_adam(model, settings):
    """Adam that keeps a moving average of the weights."""
    return keras.optimizers.Adam(settings.learning_rate, **_averaging(settings))


def _averaging(settings):
    return {"use_ema": bool(settings.ema), "ema_momentum": settings.ema}


def _fit(
    model,
    dataset,
    config,
    stage,
    part=None,
    monitor=None,
    optimizer=plain_adam,
    log_dir=None,
    checkpoint_dir=None,
    start=None,
):
    """Fits `model` on the train split; with a `monitor`, leaves it on its best weights.

    Args:
        model: a new `StagedModel`.
        dataset: `PreparedDataset`, read with the config's history length.
        config: `Config`; its seed orders the batches.
        stage: names the bar, the errors and the folders in `log_dir` and `checkpoint_dir`.
        part: the part of the config with epochs, batch size, learning rate (and patience);
            `stage` when None.
        monitor: the metric that stops the training when it has not grown for `patience` epochs.
        optimizer: (built model, settings) -> Keras optimizer.
        start: `warm_start.WarmStart` of the first weights; those of a checkpoint come before it.
    """
    part = part or stage
    settings = getattr(config, part)
    model(next(iter(dataset.batches(TRAIN, settings.batch_size, shuffle=False))))
    if start:
        start.carry_to(model, dataset.vocabularies)
    # Under mixed precision Keras wraps it, and the wrapper does not tell of averages.
    adam = optimizer(model, settings)
    model.compile(adam)
    # Slots made now spare a second trace of the train step, and can be restored.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)

    checkpoints = checkpoint_dir and Checkpoints(
        pathlib.Path(checkpoint_dir) / stage, config, dataset
    )
    resumed = checkpoints and checkpoints.newest()
    facts = resumed[0] if resumed else {"epoch": 0}
    # Nobody goes on, and so writes, before all have read.
    replicas.check_same(f"{stage}: epochs in the checkpoints", facts["epoch"])
    if resumed:
        restore_model(model, resumed[1])
    if facts.get("complete"):
        return model
    first = settings.epochs if facts.get("stopped") else facts["epoch"]

    stopping = monitor and keras.callbacks.EarlyStopping(
        monitor, mode="max", patience=settings.patience, restore_best_weights=True
    )
    chief = replicas.is_chief()
    shown = ["loss", *(f"{BEST}{segment}" for segment in ("_warm", "_cold") if monitor)]
    # The averages come first: the others are to see them in the place of the weights.
    averaged = Averaged(resumed=bool(resumed)) if adam.use_ema else None
    callbacks = [averaged, Progress(stage, *shown) if chief else None, stopping]
    callbacks = [callback for callback in callbacks if callback]
    callbacks.append(keras.callbacks.TerminateOnNaN())
    if chief and log_dir is not None:
        folder = pathlib.Path(log_dir) / stage
        callbacks.append(keras.callbacks.TensorBoard(str(folder), write_graph=False))
        callbacks.append(Projector(folder, dataset.vocabularies))
    if checkpoints:
        callbacks.append(SaveEpochs(checkpoints, stopping, resumed, writes=chief))
    steps = dataset.steps(TRAIN, settings.batch_size)
    passes = -(-settings.epoch_steps // steps)
    train = dataset.stream(TRAIN, settings.batch_size, config.seed, first_epoch=first * passes)
    validation = {}
    if monitor:
        validation = {
            "validation_data": replicas.parted(dataset.batches(VAL, EVAL_BATCH).repeat()),
            "validation_steps": dataset.steps(VAL, EVAL_BATCH),
        }
    fitted = model.fit(
        replicas.parted(train),
        steps_per_epoch=steps * passes,
        **validation,
        initial_epoch=first,
        epochs=settings.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    losses = fitted.history.get("loss", [])
    if not all(map(math.isfinite, losses)):
        raise TrainingError(
            f"{stage}: the loss is {losses[-1]}, it must be finite. Lower {part}.learning_rate."
        )
    if checkpoints and chief:
        checkpoints.save(settings.epochs, model_state(model), complete=True)
    return model

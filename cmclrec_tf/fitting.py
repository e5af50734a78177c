"""Fits one stage: builds the model, restores it, makes callbacks and data, fits and finishes."""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

from cmclrec_tf import replicas
from cmclrec_tf.callbacks import (
    LIKELIHOOD,
    Averaged,
    LogLikelihood,
    Progress,
    Projector,
    SaveEpochs,
)
from cmclrec_tf.checkpoints import Checkpoint, Checkpoints, model_state, restore_model
from cmclrec_tf.config import Config, FinetuneConfig, PretrainConfig
from cmclrec_tf.errors import TrainingError
from cmclrec_tf.models.cold_rows import keyed_uniform
from cmclrec_tf.models.staged import StagedModel
from cmclrec_tf.schema import TRAIN, VAL

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.warm_start import WarmStart

EVAL_BATCH = 256
# Stands for the epoch in the hash of `users_of`: no epoch has this number.
_NO_EPOCH = 2**31 - 1
# The geometric mean of the NDCG of both segments.
NDCG = "val_ndcg"

Folder: TypeAlias = str | os.PathLike[str]
Settings: TypeAlias = PretrainConfig | FinetuneConfig
OptimizerMaker: TypeAlias = Callable[[Any, Any], keras.optimizers.Optimizer]
"""(built model, settings of its stage) -> optimizer."""


def plain_adam(model: keras.Model, settings: Settings) -> keras.optimizers.Optimizer:
    """Returns Adam; it takes `model` as every `OptimizerMaker` does."""
    return keras.optimizers.Adam(settings.learning_rate)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One fit: the settings that it reads and the metric that it is judged by.

    Attributes:
        name: titles the progress bar and the errors, and names the folders of logs and checkpoints.
        part: part of the config that sets epochs, batch size and learning rate.
        make_optimizer: makes the optimizer of the built model.
        monitor: validation metric. The fit stops when it has not grown for `finetune.patience`
            epochs, and the weights of the best epoch are kept. None: no validation.
    """

    name: str
    part: str
    make_optimizer: OptimizerMaker = plain_adam
    monitor: str | None = None


def users_of(dataset: "PreparedDataset", settings: Settings, seed: int) -> "PreparedDataset":
    """Returns the dataset with the share of the train users that a stage reads.

    Args:
        dataset: `PreparedDataset` with all train users.
        settings: the settings of the stage; `user_share` is read.
        seed: key of the hash that chooses the users.

    Raises:
        InputError: the share holds no user.
    """
    share = settings.user_share
    if share == 1:
        return dataset
    return dataset.with_train_users(lambda keys: keyed_uniform(keys, _NO_EPOCH, seed) < share)


def fit_stage(
    model: StagedModel,
    dataset: "PreparedDataset",
    config: Config,
    stage: Stage,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
    start: "WarmStart | None" = None,
) -> None:
    """Fits a new model on the train split; with a monitor, leaves it on its best weights.

    Args:
        model: a new `StagedModel`.
        dataset: `PreparedDataset`, read with the config's history length.
        config: `Config`; its seed orders the batches.
        stage: `Stage`.
        log_dir, checkpoint_dir: see `train`; the stage has its own folder in each.
        start: `WarmStart` with the first weights; a checkpoint comes before it.

    Raises:
        InputError: another training uses the checkpoints, or they belong to another config or
            dataset.
        TrainingError: the loss became NaN or infinite.
    """
    if not checkpoint_dir:
        _fit(model, dataset, config, stage, log_dir, None, start)
        return
    checkpoints = Checkpoints(pathlib.Path(checkpoint_dir) / stage.name, config, dataset)
    # The other workers only read.
    with checkpoints.lock() if replicas.is_chief() else contextlib.nullcontext():
        _fit(model, dataset, config, stage, log_dir, checkpoints, start)


def _fit(
    model: StagedModel,
    dataset: "PreparedDataset",
    config: Config,
    stage: Stage,
    log_dir: Folder | None,
    checkpoints: Checkpoints | None,
    start: "WarmStart | None",
) -> None:
    settings = getattr(config, stage.part)
    dataset = users_of(dataset, settings, config.seed)
    uses_averages = _build(model, dataset, config, stage, start)
    checkpoint = _restore(model, checkpoints, stage)
    facts = checkpoint.facts if checkpoint else {"epoch": 0}
    if facts.get("complete"):
        return
    # After an early stop no epoch is left: the fit only puts the best weights back.
    first_epoch = settings.epochs if facts.get("stopped") else facts["epoch"]

    callbacks = _callbacks(stage, config, dataset, uses_averages, log_dir, checkpoints, checkpoint)
    fit = model.fit(
        **_data(model, dataset, settings, config.seed, first_epoch, bool(stage.monitor)),
        initial_epoch=first_epoch,
        epochs=settings.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    losses = fit.history.get("loss", [])
    if not all(map(math.isfinite, losses)):
        raise TrainingError(
            f"{stage.name}: the loss is {losses[-1]}, it must be finite. "
            f"Lower {stage.part}.learning_rate."
        )
    if checkpoints and replicas.is_chief():
        checkpoints.save(settings.epochs, model_state(model), complete=True)


def _build(
    model: StagedModel,
    dataset: "PreparedDataset",
    config: Config,
    stage: Stage,
    start: "WarmStart | None",
) -> bool:
    """Builds and compiles the model; returns whether its optimizer averages the weights."""
    settings = getattr(config, stage.part)
    model(next(iter(dataset.batches(TRAIN, settings.batch_size, shuffle=False))))
    if start:
        start.carry_to(model, dataset.vocabularies)
    # `model.optimizer` may be a wrapper for mixed precision, which does not show `use_ema`.
    optimizer = stage.make_optimizer(model, settings)
    model.compile(optimizer, jit_compile=config.compute.keras_jit_compile)
    # Without the optimizer's variables the train step would be traced twice, and a checkpoint
    # could not be restored into them.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return bool(optimizer.use_ema)


def _restore(
    model: StagedModel, checkpoints: Checkpoints | None, stage: Stage
) -> Checkpoint | None:
    """Puts the newest checkpoint into the model; returns it, or None if there is none."""
    checkpoint = checkpoints.newest() if checkpoints else None
    epoch = checkpoint.facts["epoch"] if checkpoint else 0
    # Barrier: every worker reads its checkpoint before any worker writes a new one.
    replicas.check_same(f"{stage.name}: epochs in the checkpoints", epoch)
    if checkpoint:
        restore_model(model, checkpoint.arrays)
    return checkpoint


def _callbacks(
    stage: Stage,
    config: Config,
    dataset: "PreparedDataset",
    uses_averages: bool,
    log_dir: Folder | None,
    checkpoints: Checkpoints | None,
    checkpoint: Checkpoint | None,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks, in the order in which they must run."""
    chief = replicas.is_chief()
    callbacks: list[keras.callbacks.Callback] = []
    stopping = None
    if uses_averages:
        # First, so that the other callbacks see the averages in the place of the weights.
        callbacks.append(Averaged(resumed=checkpoint is not None))
    if stage.monitor and stage.monitor.startswith(LIKELIHOOD):
        callbacks.append(LogLikelihood(dataset))
    if chief:
        shown = ("val_ndcg_warm", "val_ndcg_cold", LIKELIHOOD) if stage.monitor else ()
        callbacks.append(Progress(stage.name, "loss", *shown))
    if stage.monitor:
        stopping = keras.callbacks.EarlyStopping(
            stage.monitor,
            mode="max",
            patience=config.finetune.patience,
            restore_best_weights=True,
        )
        callbacks.append(stopping)
    callbacks.append(keras.callbacks.TerminateOnNaN())
    if chief and log_dir is not None:
        folder = pathlib.Path(log_dir) / stage.name
        callbacks.append(keras.callbacks.TensorBoard(str(folder), write_graph=False))
        callbacks.append(Projector(folder, dataset.vocabularies))
    if checkpoints:
        # Last, because it saves and restores the state of early stopping.
        callbacks.append(SaveEpochs(checkpoints, stopping, checkpoint, writes=chief))
    return callbacks


def _data(
    model: StagedModel,
    dataset: "PreparedDataset",
    settings: Settings,
    seed: int,
    first_epoch: int,
    validates: bool,
) -> dict[str, Any]:
    """Returns the arguments of `fit` that name data and count steps."""
    steps = dataset.steps(TRAIN, settings.batch_size)
    # One epoch of the fit reads the split several times if it has fewer than `epoch_steps` batches.
    passes = -(-settings.epoch_steps // steps)
    # XLA compiles for one shape, which takes longer than many steps.
    stream = dataset.stream(
        TRAIN, settings.batch_size, seed, first_epoch * passes, one_shape=model.jit_compile
    )
    data = {"x": replicas.split_batches(stream), "steps_per_epoch": steps * passes}
    if validates:
        data["validation_data"] = replicas.split_batches(dataset.batches(VAL, EVAL_BATCH).repeat())
        data["validation_steps"] = dataset.steps(VAL, EVAL_BATCH)
    return data

"""The two-stage driver of Algorithm 1: one way to train, for the CLI, notebooks and pipelines."""

import math
import pathlib

import keras

from cmclrec_tf.callbacks import Progress
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError, ReadableError
from cmclrec_tf.models import CMCLRec, Pretrain
from cmclrec_tf.schema import TRAIN, VAL

EVAL_BATCH = 256


def train(dataset, config=None, log_dir=None):
    """Stage 1 fit, then stage 2 fit; the weights of the best validation NDCG are kept.

    Args:
        dataset: `PreparedDataset` with a train and a val split.
        config: `Config`; the `default` preset when None.
        log_dir: TensorBoard logs go to `log_dir/pretrain` and `log_dir/finetune`.

    Returns:
        The trained `CMCLRec`.

    Raises:
        InputError: the dataset was prepared with a shorter history than the config asks for, or
            has no train or val users.
        TrainingError: the loss became NaN or infinite.
    """
    config = config or Config.preset("default")
    dataset = dataset.with_history(config.data.max_history)
    for split in (TRAIN, VAL):
        if not dataset.users.get(split):
            raise InputError(
                f"split {split!r} of {dataset.name}", "training needs users in it", "Add some."
            )
    keras.utils.set_random_seed(config.seed)
    stage1 = pretrain(dataset, config, log_dir)
    return finetune(dataset, config, stage1.mapper, log_dir)


class TrainingError(ReadableError):
    """Training went wrong for a reason that its config can mend."""


def pretrain(dataset, config, log_dir=None):
    """Stage 1: fits and returns the `Pretrain` model."""
    settings = config.pretrain
    model = Pretrain(dataset.schema, config)
    batches = dataset.batches(TRAIN, settings.batch_size, seed=config.seed)
    model(next(iter(batches)))
    adam = keras.optimizers.Adam(settings.learning_rate)
    adam.build(model.trainable_variables)  # slots made now spare a second trace of the train step
    model.compile(adam)
    fitted = model.fit(
        batches,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            Progress("stage 1", "loss"),
            keras.callbacks.TerminateOnNaN(),
            *_tensorboard(log_dir, "pretrain"),
        ],
    )
    _check_finite(fitted, "stage 1", "pretrain.learning_rate")
    return model


def finetune(dataset, config, mapper=None, log_dir=None):
    """Stage 2: fits and returns the `CMCLRec` model, on its best weights."""
    settings = config.finetune
    model = CMCLRec(dataset.schema, config, mapper)
    batches = dataset.batches(TRAIN, settings.batch_size, seed=config.seed)
    model(next(iter(batches)))
    model.compile(optimizer(model, settings))
    best = keras.callbacks.EarlyStopping(
        "val_ndcg", mode="max", patience=settings.patience, restore_best_weights=True
    )
    fitted = model.fit(
        batches,
        validation_data=dataset.batches(VAL, EVAL_BATCH),
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            Progress("stage 2", "loss/next_item", "val_ndcg_warm", "val_ndcg_cold"),
            best,
            keras.callbacks.TerminateOnNaN(),
            *_tensorboard(log_dir, "finetune"),
        ],
    )
    _check_finite(fitted, "stage 2", "finetune.learning_rate")
    return model


def optimizer(model, settings):
    """AdamW that decays the feature side of the mapper only: it overfits the fields first.

    Args:
        model: a built `CMCLRec`.
        settings: `FinetuneConfig`.
    """
    adam = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    feature_side = (model.mapper.tokens, model.mapper.auto_f.encoder)
    decayed = {id(v) for layer in feature_side for v in layer.trainable_variables}
    adam.exclude_from_weight_decay([v for v in model.trainable_variables if id(v) not in decayed])
    adam.build(model.trainable_variables)
    return adam


def _check_finite(fitted, stage, field):
    losses = fitted.history.get("loss", [])
    if not all(map(math.isfinite, losses)):
        raise TrainingError(f"{stage}: the loss is {losses[-1]}, it must be finite. Lower {field}.")


def _tensorboard(log_dir, stage):
    if log_dir is None:
        return []
    return [keras.callbacks.TensorBoard(str(pathlib.Path(log_dir) / stage), write_graph=False)]

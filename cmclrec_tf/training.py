"""The two-stage driver of Algorithm 1: one way to train, for the CLI, notebooks and pipelines."""

import dataclasses
import pathlib

import keras

from cmclrec_tf.callbacks import Progress
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
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
        InputError: the dataset was prepared with a shorter history than the config asks for.
    """
    config = config or Config.preset("default")
    length = config.data.max_history
    if length > dataset.max_history:
        raise InputError(
            f"data.max_history={length}",
            f"{dataset.name} was prepared with {dataset.max_history}",
            "Prepare it again with this config, or lower data.max_history.",
        )
    dataset = dataclasses.replace(dataset, max_history=length)
    keras.utils.set_random_seed(config.seed)
    stage1 = pretrain(dataset, config, log_dir)
    return finetune(dataset, config, stage1.mapper, log_dir)


def pretrain(dataset, config, log_dir=None):
    """Stage 1: fits and returns the `Pretrain` model."""
    settings = config.pretrain
    model = Pretrain(dataset.schema, config)
    batches = dataset.batches(TRAIN, settings.batch_size, seed=config.seed)
    model(next(iter(batches)))
    adam = keras.optimizers.Adam(settings.learning_rate)
    adam.build(model.trainable_variables)  # slots made now spare a second trace of the train step
    model.compile(adam)
    model.fit(
        batches,
        epochs=settings.epochs,
        verbose=0,
        callbacks=[Progress("stage 1", "loss"), *_tensorboard(log_dir, "pretrain")],
    )
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
    model.fit(
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


def _tensorboard(log_dir, stage):
    if log_dir is None:
        return []
    return [keras.callbacks.TensorBoard(str(pathlib.Path(log_dir) / stage), write_graph=False)]

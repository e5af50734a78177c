"""Trains a model for the Trainer component: prepared dataset in, SavedModel out."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_transform as tft

from cmclrec_tf import replicas, schema, warm_start
from cmclrec_tf.callbacks import without_progress
from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.training import train
from pipeline.metadata.fingerprint import checkpoint_folder
from pipeline.storage import staging
from serving.export.saved_model import export

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

# Setting of `run_fn`: number of GPUs that the task was given.
GPUS = "gpus"
# Folder of the weights for a warm start. It is next to the export, so that no server loads it.
WEIGHTS = "Weights"


def custom_config(
    config: Config,
    features: Iterable[schema.Feature],
    name: str,
    sources: str,
    checkpoints: str | None = None,
    shows_progress: bool = False,
) -> dict[str, Any]:
    """Returns the settings of `run_fn` as JSON values. All of them are part of the cache key.

    Args:
        config: the config of the run.
        features: the dataset's user features.
        name: the dataset's name.
        sources: digest of the code that trains.
        checkpoints: local folder for checkpoints; None trains without checkpoints.
        shows_progress: whether the training prints how far it is.
    """
    return {
        "config": config.to_dict(),
        "features": schema.Schema(tuple(features)).to_dict()["features"],
        "name": name,
        "sources": sources,
        "checkpoints": checkpoints,
        "shows_progress": shows_progress,
    }


def progress(settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which a training prints how far it is, if its settings say so."""
    return contextlib.nullcontext() if settings.get("shows_progress") else without_progress()


def run_fn(fn_args: "FnArgs") -> None:
    """Trains both stages, exports the model with its signatures and saves its weights.

    With a base model whose settings fit, stage 1 is left out and stage 2 starts from its weights.
    Else training starts from scratch, and the reason is printed.

    The process is one of the workers in TF_CONFIG, or uses all local GPUs, see
    `replicas.find_strategy`. Of several workers only the chief writes.

    Args:
        fn_args: the arguments from TFX. Read are the file patterns of the train and val split, the
            transform graph, `custom_config` (see the function), `hyperparameters` (of the Tuner,
            or None) and `base_model` (an export, or None). Written are `serving_model_dir` and
            `model_run_dir` (TensorBoard logs).

    Raises:
        InputError: the folder for checkpoints is not a local one, TensorFlow does not see the GPUs
            that the task was given, or as `train` raises it.
        TrainingError: the loss became NaN or infinite.
    """
    _check_gpus(fn_args.custom_config.get(GPUS, 0))
    strategy = replicas.find_strategy()  # comes early, as the workers wait for each other here
    config, dataset = inputs(fn_args)
    # What the training reads besides the dataset: its checkpoints have a folder of their own.
    other_inputs = fn_args.base_model, fn_args.hyperparameters
    checkpoints = checkpoint_folder(fn_args.custom_config, dataset, other_inputs)
    start = _warm_start(fn_args.base_model, dataset, config)
    with strategy.scope():
        is_chief = replicas.is_chief()
        logs = staging.local_output(fn_args.model_run_dir) if is_chief else contextlib.nullcontext()
        with logs as log_dir, progress(fn_args.custom_config):
            model = train(dataset, config, log_dir, checkpoints, start)
    if not is_chief:
        return
    model = replicas.plain_copy(model, dataset)
    with staging.local_output(fn_args.serving_model_dir) as folder:
        export(model, dataset, folder, config)
    with staging.local_output(_weights_folder(fn_args.serving_model_dir)) as folder:
        warm_start.save(model, dataset, folder)
    if checkpoints:
        # The export is written, so there is nothing left to resume.
        shutil.rmtree(checkpoints, ignore_errors=True)


def _check_gpus(count: int) -> None:
    """Checks that TensorFlow sees the GPUs of the task; else it would train on the CPU."""
    seen = len(tf.config.list_physical_devices("GPU"))
    if seen < count:
        raise InputError(
            f"GPUs of the Trainer: {count} given, {seen} seen by TensorFlow",
            "TensorFlow needs NVIDIA's driver and libraries to use them",
            "Build the image with --build-arg GPU=1, see docs/gpu.md.",
        )


def inputs(fn_args: "FnArgs") -> tuple[Config, PreparedDataset]:
    """Returns the config, with the Tuner's changes, and the dataset of a Trainer or Tuner."""
    settings = fn_args.custom_config
    tuned = (fn_args.hyperparameters or {}).get("values", {})
    dataset = prepared_dataset(
        name=settings["name"],
        features=[schema.Feature(**values) for values in settings["features"]],
        max_history=settings["config"]["data"]["max_history"],
        transform_graph=fn_args.transform_graph_path,
        patterns={schema.TRAIN: fn_args.train_files, schema.VAL: fn_args.eval_files},
    )
    return Config.from_dict(settings["config"]).changed(tuned), dataset


def prepared_dataset(
    name: str,
    features: Iterable[schema.Feature],
    max_history: int,
    transform_graph: str,
    patterns: Mapping[str, Iterable[str]],
) -> PreparedDataset:
    """Returns the prepared dataset in a Transform component's artifacts.

    Args:
        name: the dataset's name.
        features: its user features.
        max_history: L.
        transform_graph: folder of the transform graph, whose assets are the vocabularies.
        patterns: `{split: file patterns}` of the transformed examples.
    """
    features = tuple(features)
    transformed = tft.TFTransformOutput(transform_graph)
    return PreparedDataset.build(
        name=name,
        features=features,
        max_history=max_history,
        files={
            split: sorted(path for pattern in globs for path in tf.io.gfile.glob(pattern))
            for split, globs in patterns.items()
        },
        # Where there is no file, the bare name makes the dataset report which vocabulary is gone.
        vocabularies={
            vocabulary: transformed.vocabulary_file_by_name(vocabulary) or vocabulary
            for vocabulary in schema.Schema(features).vocabularies
        },
    )


def _warm_start(
    base_model: str | None, dataset: PreparedDataset, config: Config
) -> warm_start.WarmStart | None:
    """Returns the weights saved next to the export `base_model`, or None if they do not fit."""
    if not base_model:
        return None
    try:
        with staging.local_copy(_weights_folder(base_model)) as folder:
            start = warm_start.WarmStart.read(folder)
        start.check(dataset.with_history(config.data.max_history).schema, config)
    except (InputError, tf.errors.NotFoundError) as reason:
        print(f"Trained from scratch, not from {base_model}: {reason}", file=sys.stderr)
        return None
    print(f"Stage 2 begins with the weights of {base_model}", file=sys.stderr)
    return start


def _weights_folder(export_folder: str) -> str:
    return os.path.join(os.path.dirname(export_folder.rstrip("/")), WEIGHTS)

"""What the Trainer component calls: prepared dataset in, SavedModel out."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import sys

import tensorflow as tf
import tensorflow_transform as tft

from cmclrec_tf import replicas, schema, warm_start
from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.training import train
from pipeline.storage import staging
from pipeline.storage.folders import is_remote
from serving.export.saved_model import export

# Beside the export, so that no server gets it.
WEIGHTS = "Weights"


def custom_config(config, features, name, sources, checkpoints=None):
    """What `run_fn` needs to know, as JSON values; every part of it is in the cache key.

    Args:
        config: the `Config` of the run.
        features: tuple of `schema.Feature`.
        name: the dataset's name.
        sources: digest of the code that trains.
        checkpoints: local folder of the trainings under way; None trains without checkpoints.
    """
    return {
        "config": config.to_dict(),
        "features": schema.Schema(features).to_dict()["features"],
        "name": name,
        "sources": sources,
        "checkpoints": checkpoints,
    }


def run_fn(fn_args) -> None:
    """Trains both stages and exports the model with its four signatures; keeps its weights beside.

    Begins with the weights of the base model if there is one that can be gone on with, else from
    scratch, and says why.

    As one of the workers that TF_CONFIG names, or on all GPUs, see `replicas.strategy_here`; only
    the chief of several workers writes.

    Args:
        fn_args: TFX's `FnArgs`: file patterns of the train and val splits, the transform graph,
            `custom_config` as above, `hyperparameters` (of the Tuner, or None), `base_model` (an
            export, or None), `serving_model_dir` (written) and `model_run_dir` (TensorBoard logs).

    Raises:
        InputError: the folder of checkpoints is not a local one; else as in `train`.
    """
    strategy = replicas.strategy_here()  # first of all: the workers meet here
    config, dataset = inputs(fn_args)
    begun_with = fn_args.base_model, fn_args.hyperparameters
    checkpoints = checkpoint_folder(fn_args.custom_config, dataset, begun_with)
    start = _start(fn_args.base_model, dataset, config)
    with strategy.scope():
        chief = replicas.is_chief()
        with staging.written(fn_args.model_run_dir) if chief else contextlib.nullcontext() as logs:
            model = train(dataset, config, log_dir=logs, checkpoint_dir=checkpoints, start=start)
    if not chief:
        return
    model = replicas.plain_copy(model, dataset)
    with staging.written(fn_args.serving_model_dir) as folder:
        export(model, dataset, folder, config)
    with staging.written(_weights(fn_args.serving_model_dir)) as folder:
        warm_start.save(model, dataset, folder)
    if checkpoints:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _weights(export_folder):
    return os.path.join(os.path.dirname(export_folder.rstrip("/")), WEIGHTS)


def _start(base, dataset, config):
    """The `WarmStart` beside the export `base`, or None where it cannot be gone on with."""
    if not base:
        return None
    try:
        with staging.fetched(_weights(base)) as folder:
            start = warm_start.WarmStart.read(folder)
        start.check(dataset.with_history(config.data.max_history).schema, config)
    except (InputError, tf.errors.NotFoundError) as reason:
        print(f"Trained from scratch, not from {base}: {reason}", file=sys.stderr)
        return None
    print(f"Stage 2 begins with the weights of {base}", file=sys.stderr)
    return start


def checkpoint_folder(custom, dataset, more=None):
    """Where a training keeps its state: the same folder whenever it would read the same.

    Args:
        custom: `custom_config`, as the Trainer's arguments hold it.
        dataset: the `PreparedDataset` that is trained on.
        more: what it depends on beside, as JSON values.

    Returns:
        `pathlib.Path`, or None without checkpoints.

    Raises:
        InputError: the folder is not a local one.
    """
    root = custom.get("checkpoints")
    if not root:
        return None
    if is_remote(root):
        raise InputError(root, "checkpoints need a local folder", "Leave checkpoints out.")
    read = {key: value for key, value in custom.items() if key != "checkpoints"}
    digest = hashlib.sha256(json.dumps([read, more], sort_keys=True).encode())
    # A re-run Trainer gets new folders to write to; what it reads stays.
    for split, files in sorted(dataset.files.items()):
        for path in files:
            digest.update(f"{split} {_file_digest(path)}".encode())
    for name, path in sorted(dataset.vocabularies.items()):
        digest.update(f"{name} {_file_digest(path)}".encode())
    return pathlib.Path(root) / digest.hexdigest()[:32]


def _file_digest(path):
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(str(path), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inputs(fn_args):
    """The `Config`, as tuned, and the `PreparedDataset` that a Trainer's arguments stand for."""
    custom = fn_args.custom_config
    tuned = (fn_args.hyperparameters or {}).get("values", {})
    files = {schema.TRAIN: fn_args.train_files, schema.VAL: fn_args.eval_files}
    return Config.from_dict(custom["config"]).changed(tuned), prepared_dataset(
        name=custom["name"],
        features=tuple(schema.Feature(**values) for values in custom["features"]),
        max_history=custom["config"]["data"]["max_history"],
        transform_graph=fn_args.transform_graph_path,
        patterns=files,
    )


def prepared_dataset(name, features, max_history, transform_graph, patterns):
    """The prepared dataset that lies in a Transform's artifacts.

    Args:
        transform_graph: folder of the transform graph, whose assets are the vocabularies.
        patterns: `{split: [file patterns]}` of the transformed examples.
    """
    transformed = tft.TFTransformOutput(transform_graph)
    return PreparedDataset.build(
        name=name,
        features=features,
        max_history=max_history,
        files={
            split: sorted(path for pattern in found for path in tf.io.gfile.glob(pattern))
            for split, found in patterns.items()
        },
        # A vocabulary without a file is named by the reader's error.
        vocabularies={
            vocabulary: transformed.vocabulary_file_by_name(vocabulary) or vocabulary
            for vocabulary in schema.Schema(features).vocabularies
        },
    )

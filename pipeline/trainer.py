"""What the Trainer component calls: prepared dataset in, SavedModel out."""

import tensorflow as tf
import tensorflow_transform as tft

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from cmclrec_tf.input import PreparedDataset
from cmclrec_tf.training import train
from pipeline import staging
from serving.export import export


def custom_config(config, features, name, sources):
    """What `run_fn` needs to know, as JSON values; every part of it is in the cache key.

    Args:
        config: the `Config` of the run.
        features: tuple of `schema.Feature`.
        name: the dataset's name.
        sources: digest of the code that trains.
    """
    return {
        "config": config.to_dict(),
        "features": schema.Schema(features).to_dict()["features"],
        "name": name,
        "sources": sources,
    }


def run_fn(fn_args):
    """Trains both stages and exports the model with its four signatures.

    Args:
        fn_args: TFX's `FnArgs`: file patterns of the train and val splits, the transform graph,
            `custom_config` as above, `serving_model_dir` (written) and `model_run_dir`
            (TensorBoard logs).
    """
    config, dataset = inputs(fn_args)
    with staging.written(fn_args.model_run_dir) as logs:
        model = train(dataset, config, log_dir=logs)
    with staging.written(fn_args.serving_model_dir) as folder:
        export(model, dataset, folder, config)


def inputs(fn_args):
    """The `Config` and the `PreparedDataset` that a Trainer's arguments stand for."""
    custom = fn_args.custom_config
    files = {schema.TRAIN: fn_args.train_files, schema.VAL: fn_args.eval_files}
    return Config.from_dict(custom["config"]), prepared_dataset(
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

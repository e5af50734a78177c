"""CMCLRec on Keras: recommendations for users with a history and for users without one.

The names below load on first use, so that the CLI and the pipeline's workers start without Keras.
Source of the method: Xu et al., CMCLRec, SIGIR 2024, doi:10.1145/3626772.3657839.
"""

import importlib

_HOMES = {
    "CMCLRec": "cmclrec_tf.models",
    "Config": "cmclrec_tf.config",
    "CrossModalMapper": "cmclrec_tf.models",
    "Feature": "cmclrec_tf.schema",
    "InputError": "cmclrec_tf.errors",
    "PlainRecommender": "cmclrec_tf.models",
    "Popularity": "cmclrec_tf.baselines.popularity",
    "PreparedDataset": "cmclrec_tf.data.prepared",
    "Pretrain": "cmclrec_tf.models",
    "Schema": "cmclrec_tf.schema",
    "evaluate": "cmclrec_tf.evaluation",
    "prepare_tables": "cmclrec_tf.data.in_memory",
    "table": "cmclrec_tf.evaluation",
    "train": "cmclrec_tf.training",
    "train_plain": "cmclrec_tf.training",
}

__all__ = sorted([*_HOMES, "load"])


def load(folder):
    """Reads a prepared dataset from its folder: `PreparedDataset.load`."""
    return __getattr__("PreparedDataset").load(folder)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

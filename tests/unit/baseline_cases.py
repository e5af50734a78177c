"""Helpers shared by the tests of the baselines."""

import keras
import numpy as np

from cmclrec_tf import baselines
from cmclrec_tf.config import Config
from tests.conftest import TINY


def built(name, dataset, batch, **baseline):
    """Returns a prepared, untrained baseline; `baseline` are settings of `BaselineConfig`."""
    config = Config.from_dict(
        {**TINY, "baseline": {"hidden": 16, "graph_users": 64, "negatives": 12, **baseline}}
    )
    keras.utils.set_random_seed(0)
    model = baselines.create(name, dataset.schema, config)
    model.prepare(dataset)
    model(batch)
    return model


def log_sum(x):
    """Returns log sum exp(x)."""
    return np.log(np.exp(x).sum())

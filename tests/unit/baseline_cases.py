"""What the tests of the baselines' ideas share."""

import keras
import numpy as np

from cmclrec_tf import baselines
from cmclrec_tf.config import Config
from tests.conftest import TINY


def made(name, dataset, batch, **baseline):
    config = Config.from_dict(
        {**TINY, "baseline": {"hidden": 16, "graph_users": 64, "negatives": 12, **baseline}}
    )
    keras.utils.set_random_seed(0)
    model = baselines.create(name, dataset.schema, config)
    model.prepare(dataset)
    model(batch)
    return model


def log_sum(x):
    return np.log(np.exp(x).sum())

"""All settings of a run, as frozen dataclasses that check their values; see `Config`."""

from cmclrec_tf.config.baseline import BaselineConfig
from cmclrec_tf.config.config import Config
from cmclrec_tf.config.data_config import (
    BY_TIME,
    BY_USERS,
    LEAVE_ONE_OUT,
    DataConfig,
    split_settings,
)
from cmclrec_tf.config.evaluate import EvaluateConfig
from cmclrec_tf.config.sections import (
    ABLATIONS,
    ComputeConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)

__all__ = [
    "ABLATIONS",
    "BY_TIME",
    "BY_USERS",
    "LEAVE_ONE_OUT",
    "BaselineConfig",
    "ComputeConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ModelConfig",
    "PretrainConfig",
    "ServeConfig",
    "split_settings",
]

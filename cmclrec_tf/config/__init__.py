"""All settings of a run, as frozen dataclasses that check their values; see `Config`."""

from cmclrec_tf.config.baseline import BaselineConfig
from cmclrec_tf.config.config import Config
from cmclrec_tf.config.evaluate import EvaluateConfig
from cmclrec_tf.config.sections import (
    ABLATIONS,
    SPLIT_SETTINGS,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)

__all__ = [
    "ABLATIONS",
    "SPLIT_SETTINGS",
    "BaselineConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ModelConfig",
    "PretrainConfig",
    "ServeConfig",
]

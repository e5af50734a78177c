"""Every setting of a run, as frozen dataclasses that check themselves; see `Config`."""

from cmclrec_tf.config.baseline import BaselineConfig
from cmclrec_tf.config.evaluate import EvaluateConfig
from cmclrec_tf.config.settings import (
    ABLATIONS,
    DRAW,
    Config,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)

__all__ = [
    "ABLATIONS",
    "DRAW",
    "BaselineConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ModelConfig",
    "PretrainConfig",
    "ServeConfig",
]

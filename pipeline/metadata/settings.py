"""Reads which settings of a run are not the defaults, and which ones the Tuner selected."""

import json
import os
from typing import Any

from cmclrec_tf.config import Config


def changed_settings(config: Config) -> dict[str, Any]:
    """Returns `{path: value}` of the settings that differ from the defaults.

    Args:
        config: the config of a run. A path is `part.setting`, as in `model.width`.
    """
    defaults = Config().to_dict()
    changed: dict[str, Any] = {}
    for part, value in config.to_dict().items():
        if isinstance(value, dict):
            settings = {f"{part}.{name}": (v, defaults[part][name]) for name, v in value.items()}
        else:
            settings = {part: (value, defaults[part])}
        changed |= {path: value for path, (value, default) in settings.items() if value != default}
    return changed


def tuned_settings(best_hyperparameters: str) -> dict[str, Any]:
    """Returns `{path: value}` of the settings that a Tuner selected.

    Args:
        best_hyperparameters: folder of the Tuner's artifact of that name.
    """
    from tfx.utils import io_utils  # takes half a minute, which `lineage` can do without

    path = os.path.join(best_hyperparameters, "best_hyperparameters.txt")
    return json.loads(io_utils.read_string_file(path))["values"]

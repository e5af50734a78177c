"""Writes and reads which dataset and config an export came from."""

import hashlib
import importlib.resources
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema

# TensorFlow Serving reads only its warmup requests from this folder.
FILE = "assets.extra/cmclrec_origin.json"
_MAX_BYTES = 2**20


class Origin(NamedTuple):
    """Where an export came from.

    Attributes:
        dataset: name of the dataset.
        values: everything that the file holds.
    """

    dataset: str
    values: dict[str, Any]

    def __str__(self) -> str:
        """Returns the dataset and the config in a few words."""
        preset, config = self.values.get("preset"), self.values.get("config")
        if isinstance(preset, str):
            return f"{self.dataset}, preset {preset}"
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        return f"{self.dataset}, config {digest[:8]}"


def write(folder: str | os.PathLike[str], dataset: str, schema: "Schema", config: "Config") -> None:
    """Writes the origin of an export. Equal arguments give equal bytes.

    Args:
        folder: folder of the SavedModel.
        dataset: name of the dataset.
        schema: its user features and the digest of its vocabularies.
        config: config of the training and the export.
    """
    values = {
        "dataset": dataset,
        "vocabularies": schema.digest,
        "features": {feature.name: feature.kind for feature in schema.features},
        "preset": _preset(config),
        "config": config.to_dict(),
    }
    path = pathlib.Path(folder) / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")


def read(folder: str | os.PathLike[str]) -> Origin | None:
    """Returns the origin of an export; None if it holds none that can be read."""
    try:
        with open(pathlib.Path(folder) / FILE, "rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
        dataset = values["dataset"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    preset = values.get("preset")
    # Both are printed to terminals.
    are_names = isinstance(dataset, str) and all(
        name.isprintable() for name in (dataset, preset) if isinstance(name, str)
    )
    return Origin(dataset, values) if are_names else None


def _preset(config: "Config") -> str | None:
    """Returns the name of the preset that a config equals, if any."""
    from cmclrec_tf.config import Config

    names = [path.name for path in (importlib.resources.files("cmclrec_tf") / "presets").iterdir()]
    for name in sorted(name[: -len(".yaml")] for name in names if name.endswith(".yaml")):
        if Config.preset(name) == config:
            return name
    return None

"""The config of a whole run: built from dicts, YAML files and presets."""

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from cmclrec_tf.config import checks
from cmclrec_tf.config.baseline import BaselineConfig
from cmclrec_tf.config.data_config import DataConfig
from cmclrec_tf.config.evaluate import EvaluateConfig
from cmclrec_tf.config.sections import (
    ACCEPTS_ANY_BACKBONE,
    ComputeConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)
from cmclrec_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Bad values raise an `InputError` when the config is built.

    Attributes:
        data: how user records are made and split.
        model: sizes and variants of the model.
        pretrain: training of stage 1.
        finetune: training of stage 2.
        baseline: settings of the baselines.
        compute: precision of the training, and whether XLA compiles it.
        evaluate: reported metrics, and bounds that a model must reach to be blessed.
        serve: settings of the exported model.
        seed: seeds the initial weights, the shuffling and all sampling; 0 or more, in 31 bits.

    Example:
        >>> import cmclrec_tf as cm
        >>> config = cm.Config.from_dict({"model": {"width": 32}, "seed": 7})
        >>> config.model.width, config.model.backbone
        (32, 'sasrec')
        >>> config.changed({"finetune.epochs": 3}).finetune.epochs
        3
        >>> cm.Config.preset("paper").finetune.eta
        0.7
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    baseline: BaselineConfig = BaselineConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    serve: ServeConfig = ServeConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.not_negative(self, "seed")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as nested dicts, the inverse of `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Config":
        """Builds a config from nested dicts; settings that are left out have their defaults.

        Raises:
            InputError: an unknown setting, or a value of the wrong type or out of bounds.
        """
        return checks.build(cls, {} if values is None else values, "config")

    @classmethod
    def of_run(
        cls, values: Mapping[str, Any], changes: Mapping[str, Any] | None = None
    ) -> "Config":
        """Builds the config of an earlier run, to read about it.

        The module that registers its backbone need not be imported, so the config may not train.

        Args:
            values: settings as nested dicts, see `to_dict`.
            changes: other values of some settings, see `changed`.

        Raises:
            InputError: as in `from_dict` and `changed`, except for an unknown backbone.
        """
        token = ACCEPTS_ANY_BACKBONE.set(True)
        try:
            return cls.from_dict(values).changed(changes or {})
        finally:
            ACCEPTS_ANY_BACKBONE.reset(token)

    def changed(self, values: Mapping[str, Any]) -> "Config":
        """Returns a copy with other values of some settings.

        Args:
            values: values by path, such as `{"finetune.ema": 0}`.

        Raises:
            InputError: an unknown setting, or a value of the wrong type or out of bounds.
        """
        nested = self.to_dict()
        for path, value in values.items():
            section, _, field = path.rpartition(".")
            settings = nested.get(section) if section else nested
            if not isinstance(settings, dict) or field not in settings:
                raise InputError(
                    f"setting {path}={value!r}",
                    "it must be a field of the config, as finetune.ema",
                    "Correct the name.",
                )
            settings[field] = value
        return Config.from_dict(nested)

    def to_yaml(self) -> str:
        """Returns the settings as YAML, which `from_yaml` reads."""
        values = self.to_dict()
        values["evaluate"] |= {name: list(values["evaluate"][name]) for name in ("ks", "slices")}
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> "Config":
        """Reads a YAML file; settings that it leaves out have their defaults.

        Raises:
            InputError: the file is missing or malformed, or a setting is wrong.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise InputError(path, "the config file must exist", "Check the path.")
        try:
            return _parse(path.read_text("utf-8"), path)
        except UnicodeDecodeError as error:
            raise InputError(path, "it must be UTF-8 text", "Save it as UTF-8.") from error

    @classmethod
    def preset(cls, name: str) -> "Config":
        """Reads `cmclrec_tf/presets/<name>.yaml`.

        Raises:
            InputError: there is no preset of that name.
        """
        folder = importlib.resources.files("cmclrec_tf") / "presets"
        names = sorted(
            p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml")
        )
        if name not in names:
            raise InputError(f"preset {name!r}", f"presets are {names}", "Choose one of them.")
        return _parse((folder / f"{name}.yaml").read_text(), f"preset {name}")


def _parse(text: str, source: str | pathlib.Path) -> Config:
    try:
        return Config.from_dict(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(source, f"it must be YAML ({error})", "Correct the file.") from error

"""Reads which models, and which of their versions, a server serves."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from cmclrec_tf.errors import InputError
from serving.server import text_protos


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Selects the versions to serve from the available ones.

    Attributes:
        latest: number of newest versions; 0 for all versions.
        specific: exact versions, which replace `latest`.
    """

    latest: int = 1
    specific: tuple[int, ...] = ()

    def select(self, versions: Iterable[int]) -> list[int]:
        """Returns the versions to serve, newest first."""
        newest = sorted(versions, reverse=True)
        if self.specific:
            return [version for version in newest if version in self.specific]
        return newest[: self.latest] if self.latest else newest


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: model name in requests.
        base_path: folder of integer-named versions.
        policy: selects the versions.
        labels: `((label, version), ...)`.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: tuple[tuple[str, int], ...] = ()


def read(path: str | os.PathLike[str]) -> dict[str, ModelConfig]:
    """Reads a ModelServerConfig file, the format of `tensorflow_model_server`.

    Returns:
        `{name: ModelConfig}`.

    Raises:
        InputError: the file cannot be read, names no model, names one twice, or leaves out a path.
    """
    config = text_protos.model_server_config(path)
    models: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if not model.name or not model.base_path or model.name in models:
            raise InputError(
                f"model {model.name!r} of {path}",
                "every model needs a base_path and a unique name",
                "Correct the file.",
            )
        labels = tuple(sorted(model.version_labels.items()))
        models[model.name] = ModelConfig(model.name, model.base_path, _policy(model), labels)
    if not models:
        raise InputError(path, "it must name a model", "Add one to model_config_list.")
    return models


def _policy(model: Any) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(latest=0)
    if choice == "specific":
        if not policy.specific.versions:
            raise InputError(
                f"policy `specific` of model {model.name!r}",
                "it must name a version",
                "Add `versions: <number>` to it.",
            )
        return VersionPolicy(specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=policy.latest.num_versions or 1)

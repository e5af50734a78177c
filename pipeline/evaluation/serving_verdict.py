"""Writes and reads the verdict of ServingValidator, its InfraBlessing artifact."""

import os
from collections.abc import Sequence

from tfx.types.standard_artifacts import InfraBlessing
from tfx.utils import io_utils

# The names that TFX's own InfraValidator uses, so that Pusher understands the verdict.
_BLESSED_FILE = "INFRA_BLESSED"
_NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
_BLESSED = "blessed"

_REASONS_FILE = "REASONS.txt"


def write_verdict(blessing: InfraBlessing, reasons: Sequence[str]) -> None:
    """Blesses a model, or records the reasons against it.

    Args:
        blessing: the artifact, whose folder and properties are written.
        reasons: one line for each fault; the model is blessed when there is none.
    """
    name = _NOT_BLESSED_FILE if reasons else _BLESSED_FILE
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    io_utils.write_string_file(os.path.join(blessing.uri, _REASONS_FILE), "\n".join(reasons))
    blessing.set_int_custom_property(_BLESSED, int(not reasons))


def is_blessed(blessing: InfraBlessing) -> bool:
    """Whether the verdict of an artifact is positive."""
    return blessing.get_int_custom_property(_BLESSED) == 1


def read_serving_failures(blessing_uri: str) -> list[str]:
    """Returns why ServingValidator did not bless a model, one line per reason.

    Args:
        blessing_uri: folder of the artifact.
    """
    reasons = io_utils.read_string_file(os.path.join(blessing_uri, _REASONS_FILE))
    return [f"not fit to serve: {line}" for line in reasons.splitlines()]

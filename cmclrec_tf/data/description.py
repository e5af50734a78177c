"""The description of a prepared dataset, `dataset.yaml`: written last, read and checked first."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import yaml

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature

DESCRIPTION = "dataset.yaml"


def check_length(length: int, longest: int, name: str) -> None:
    """Checks that histories of a length can be cut from those of a prepared dataset.

    Args:
        length: the length.
        longest: the length that the dataset was prepared with.
        name: the dataset in the error.

    Raises:
        InputError: the length is no positive integer, or above `longest`.
    """
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)) or length < 1:
        raise InputError(f"max_history={length!r}", "it is a positive integer", "Correct it.")
    if length > longest:
        raise InputError(
            f"data.max_history={length}",
            f"{name} was prepared with {longest}",
            "Prepare it again with this config, or lower data.max_history.",
        )


def check_history(folder: str | os.PathLike[str], length: int | None) -> dict[str, Any]:
    """Checks that a prepared dataset has histories of a length; reads only its description.

    Args:
        folder: folder of the prepared dataset.
        length: the length; None means any.

    Returns:
        The description of the dataset, see `write_description`.

    Raises:
        InputError: the dataset was prepared with shorter histories, or is no prepared dataset.
    """
    path = pathlib.Path(folder) / DESCRIPTION
    if not path.is_file():
        raise InputError(
            folder, f"a prepared dataset holds {DESCRIPTION}", "Run `cmclrec prepare` first."
        )
    try:
        description = yaml.safe_load(path.read_text())
        longest = description["max_history"]
    except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise InputError(path, "it must be whole", "Prepare the dataset again.") from error
    check_length(longest if length is None else length, longest, str(folder))
    return dict(description)


def check_replaceable(folder: str | os.PathLike[str]) -> None:
    """Checks that a prepared dataset may be written to `folder`: it is new, empty or one itself.

    Raises:
        InputError: the folder holds something else.
    """
    folder = pathlib.Path(folder)
    if folder.is_dir() and ((folder / DESCRIPTION).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise InputError(
            folder,
            "only a prepared dataset is replaced, and it is not a prepared dataset",
            "Give another folder, or remove it.",
        )


def write_description(
    folder: str | os.PathLike[str],
    name: str,
    features: Iterable[Feature],
    max_history: int,
    counts: Mapping[str, int],
) -> None:
    """Writes `dataset.yaml`, which `PreparedDataset.load` reads first.

    Args:
        folder: folder of the prepared dataset.
        name: name of the dataset.
        features: the user features.
        max_history: L.
        counts: number of users by split; `PreparedDataset.load` checks the files against it.
    """
    description = {
        "name": name,
        "max_history": max_history,
        "users": dict(counts),
        "features": [feature.settings for feature in features],
    }
    (pathlib.Path(folder) / DESCRIPTION).write_text(yaml.safe_dump(description, sort_keys=False))

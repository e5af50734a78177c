"""Which version of a model to serve."""

import pathlib
import re

from cmclrec_tf.errors import InputError

_NEWEST = 2**63 - 1


def available(model_base_path):
    """The versions that can be loaded: those that are complete.

    A version is complete once its `saved_model.pb` is there, which is written last.

    Args:
        model_base_path: folder with one integer-named folder a version, each a SavedModel.

    Returns:
        `{version: folder}`.

    Raises:
        InputError: no such folder.
    """
    return {v: f for v, f in _versions(model_base_path).items() if _is_complete(f)}


def latest(model_base_path):
    """The highest complete version under a model base path.

    Args:
        model_base_path: as in `available`.

    Returns:
        The version and its folder.

    Raises:
        InputError: no such folder, none of its folders is a version, or none holds a SavedModel.
    """
    found = _versions(model_base_path)
    if not found:
        raise InputError(
            model_base_path,
            "it must hold a version: a folder with an integer for a name",
            "Push a model there; the path is the folder above the versions.",
        )
    complete = {version: folder for version, folder in found.items() if _is_complete(folder)}
    if not complete:
        raise InputError(
            found[max(found)],
            "a version must hold saved_model.pb",
            "Push the model again or remove the folder.",
        )
    return max(complete), complete[max(complete)]


def _is_complete(folder):
    return (folder / "saved_model.pb").is_file()


def _versions(model_base_path):
    base = pathlib.Path(model_base_path)
    if not base.is_dir():
        raise InputError(
            base, "the model base path must be a folder", "Run the pipeline or correct the path."
        )
    return {
        int(folder.name): folder
        for folder in sorted(base.iterdir())
        if re.fullmatch("[0-9]+", folder.name) and folder.is_dir() and int(folder.name) <= _NEWEST
    }

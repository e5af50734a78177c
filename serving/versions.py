"""Which version of a model to serve."""

import pathlib
import re

from cmclrec_tf.errors import InputError

_NEWEST = 2**63 - 1


def latest(model_base_path):
    """The highest version under a model base path.

    Args:
        model_base_path: folder with one integer-named folder a version, each a SavedModel.

    Returns:
        The version and its folder.

    Raises:
        InputError: no such folder, none of its folders is a version, or the highest one holds no
            SavedModel.
    """
    base = pathlib.Path(model_base_path)
    if not base.is_dir():
        raise InputError(
            base, "the model base path must be a folder", "Run the pipeline or correct the path."
        )
    versions = {
        int(folder.name): folder
        for folder in sorted(base.iterdir())
        if re.fullmatch("[0-9]+", folder.name) and folder.is_dir() and int(folder.name) <= _NEWEST
    }
    if not versions:
        raise InputError(
            base,
            "it must hold a version: a folder with an integer for a name",
            "Push a model there; the path is the folder above the versions.",
        )
    version = max(versions)
    if not (versions[version] / "saved_model.pb").is_file():
        raise InputError(
            versions[version],
            "the highest version must hold saved_model.pb",
            "Push the model again or remove the folder.",
        )
    return version, versions[version]

"""Manages the versions of a model on disk: lists, publishes, rolls back, restores and prunes."""

import os
import pathlib
import re
import shutil
import time
from collections.abc import Collection
from typing import TypeAlias

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import leftovers
from cmclrec_tf.processes.whole import sync
from cmclrec_tf.processes.writing import copy_folder, writing
from serving.export import origin

_Path: TypeAlias = str | os.PathLike[str]

_MAX_VERSION = 2**63 - 1
# Two prefixes and a suffix of folder names; servers ignore such folders, which are not numbers.
_PUBLISHING, _REMOVING, ROLLED_BACK = ".publishing-", ".removing-", ".rolled-back"


def available(model_base_path: _Path) -> dict[int, pathlib.Path]:
    """Returns the complete versions, which can be loaded.

    A version is complete once it has its `saved_model.pb`, which is written last.

    Args:
        model_base_path: folder of the versions: SavedModels in folders named by integers.

    Returns:
        `{version: folder}`.

    Raises:
        InputError: there is no such folder.
    """
    return {v: folder for v, folder in _versions(model_base_path).items() if _is_complete(folder)}


def latest(model_base_path: _Path) -> tuple[int, pathlib.Path]:
    """Returns the newest complete version and its folder.

    Args:
        model_base_path: as in `available`.

    Raises:
        InputError: there is no such folder, it holds no version, or no version is complete.
    """
    versions = _versions(model_base_path)
    if not versions:
        raise InputError(
            model_base_path,
            "it must hold a version: a folder with an integer for a name",
            "Push a model there; the path is the folder above the versions.",
        )
    complete = {version: folder for version, folder in versions.items() if _is_complete(folder)}
    if not complete:
        raise InputError(
            versions[max(versions)],
            "a version must hold saved_model.pb",
            "Push the model again or remove the folder.",
        )
    return max(complete), complete[max(complete)]


def rolled_back(model_base_path: _Path) -> dict[int, pathlib.Path]:
    """Returns `{version: folder}` of the versions that were rolled back."""
    base = pathlib.Path(model_base_path)
    pattern = re.compile(f"([0-9]+){re.escape(ROLLED_BACK)}")
    paths = sorted(base.iterdir()) if base.is_dir() else []
    matches = [(pattern.fullmatch(path.name), path) for path in paths]
    return {int(match[1]): path for match, path in matches if match}


def check_dataset(dataset: str, model_base_path: _Path, fix: str) -> None:
    """Checks that the newest version of a base path is a model of a dataset.

    Clients send the items and user features of one dataset. A version that does not say where it
    came from passes, and so does a base path without versions.

    Args:
        dataset: name of the dataset.
        model_base_path: folder of the versions.
        fix: what the user can do if the check fails, for the error.

    Raises:
        InputError: the newest version is a model of another dataset.
    """
    base = pathlib.Path(model_base_path)
    complete = available(base) if base.is_dir() else {}
    version = max(complete, default=0)
    served = origin.read(complete[version]) if complete else None
    if served and served.dataset != dataset:
        raise InputError(
            f"a model of dataset {dataset!r} for {base}",
            f"its newest version, {version}, is a model of dataset {served.dataset!r}",
            fix,
        )


def publish(source: _Path, model_base_path: _Path, force: bool = False) -> tuple[int, pathlib.Path]:
    """Copies a SavedModel to the base path as the newest version.

    The copy is written to a temporary folder, synced to disk and then renamed, so a server that
    watches the base path never sees a part of a version. Temporary folders of processes that were
    killed are removed.

    Args:
        source: folder of the SavedModel.
        model_base_path: folder of the versions, on a local file system; created if missing.
        force: whether the newest version may be a model of another dataset.

    Returns:
        The version and its folder. The version is the Unix time in seconds, or one more than the
        newest version, whichever is larger.

    Raises:
        InputError: the source holds no SavedModel, the base path holds models of another dataset,
            or it cannot be written, as when the disk is full.
    """
    source, base = pathlib.Path(source), pathlib.Path(model_base_path)
    if not _is_complete(source):
        raise InputError(source, "it must hold saved_model.pb", "Export the model again.")
    source_origin = origin.read(source)
    if source_origin and not force:
        fix = "Push it to another model base path, or force the push."
        check_dataset(source_origin.dataset, base, fix)
    with writing(base):
        base.mkdir(parents=True, exist_ok=True)
        leftovers.remove_left(base, _PUBLISHING, _REMOVING)
        with leftovers.temporary_folder(base, _PUBLISHING) as temporary:
            copy = temporary / "copy"
            # A version counts as complete once it has this file.
            copy_folder(source, copy, last="saved_model.pb")
            copy.chmod(0o755)  # the source may be private; servers run as another user
            sync(copy)
            version = _rename_to_newest(copy, base)
            sync(base)
    return version, base / str(version)


def roll_back(model_base_path: _Path, to: int | None = None) -> tuple[int, list[int]]:
    """Makes an earlier version the newest: moves all versions above it aside.

    The newest version moves last, so a server that watches goes straight from it to `to`.

    Args:
        model_base_path: folder of the versions.
        to: version to go back to; the one before the newest if None.

    Returns:
        The version that is the newest now, and those that were moved, oldest first.

    Raises:
        InputError: there is no such complete version, none before the newest, or the folder cannot
            be written.
    """
    base = pathlib.Path(model_base_path)
    complete = available(base)
    earlier = sorted(complete)[:-1]
    if to is None and not earlier:
        raise InputError(base, "there must be a version before the newest", "Push one first.")
    to = earlier[-1] if to is None else to
    _check_among(base, complete, to, "complete version")
    moved = [(version, folder) for version, folder in _folders(base) if version > to]
    with writing(base):
        for _, folder in moved:
            folder.rename(base / f"{folder.name}{ROLLED_BACK}")
    return to, [version for version, _ in moved]


def restore(model_base_path: _Path, version: int) -> None:
    """Brings back a version that was rolled back.

    Raises:
        InputError: there is no such version, its folder exists already, or the folder cannot be
            written.
    """
    base = pathlib.Path(model_base_path)
    aside = rolled_back(base)
    _check_among(base, aside, version, "version that was rolled back")
    target = base / aside[version].name[: -len(ROLLED_BACK)]
    for folder in (target, _versions(base).get(version)):
        if folder and folder.exists():
            raise InputError(
                folder, "there must be none yet", "Remove or rename that folder first."
            )
    with writing(base):
        aside[version].rename(target)


def prune(model_base_path: _Path, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Removes old versions.

    Args:
        model_base_path: folder of the versions.
        keep: number of newest complete versions to keep.
        protected: versions to keep regardless of their age.

    Returns:
        The removed versions, oldest first.

    Raises:
        InputError: there is no such folder, it cannot be written, or `keep` is below 1.
    """
    if keep < 1:
        raise InputError(f"keep={keep}", "at least one version stays", "Pass a positive number.")
    base = pathlib.Path(model_base_path)
    newest = sorted(available(base), reverse=True)[:keep]
    if not newest:
        return []
    oldest = min(newest)
    removed = [(v, folder) for v, folder in _folders(base) if v < oldest and v not in protected]
    with writing(base):
        leftovers.remove_left(base, _PUBLISHING, _REMOVING)
        for _, folder in removed:
            # Rename first: a server must not find half a version.
            with leftovers.temporary_folder(base, _REMOVING) as temporary:
                folder.rename(temporary / folder.name)
                shutil.rmtree(temporary / folder.name)
    return [version for version, _ in removed]


def _check_among(base: pathlib.Path, among: Collection[int], version: int, kind: str) -> None:
    if version not in among:
        raise InputError(
            f"version {version} of {base}",
            f"it must be a {kind}; there are {sorted(among) or 'none'}",
            "Choose one of them.",
        )


def _rename_to_newest(copy: pathlib.Path, base: pathlib.Path) -> int:
    """Renames a folder to a version above all others, and returns that version."""
    while True:
        newest = max([*_versions(base), *rolled_back(base)], default=0)
        version = max(int(time.time()), newest + 1)
        try:
            copy.rename(base / str(version))
            return version
        except OSError:
            # Another process published this number in the meantime.
            if not (base / str(version)).exists():
                raise


def _is_complete(folder: pathlib.Path) -> bool:
    return (folder / "saved_model.pb").is_file()


def _versions(model_base_path: _Path) -> dict[int, pathlib.Path]:
    """Returns the folders named by integers, complete or not, as TensorFlow Serving sees them."""
    return dict(_folders(model_base_path))


def _folders(model_base_path: _Path) -> list[tuple[int, pathlib.Path]]:
    """Returns [(version, folder)], oldest first; "7" and "007" are the same version."""
    base = pathlib.Path(model_base_path)
    if not base.is_dir():
        raise InputError(
            base, "the model base path must be a folder", "Run the pipeline or correct the path."
        )
    return sorted(
        (int(folder.name), folder)
        for folder in base.iterdir()
        if re.fullmatch("[0-9]+", folder.name)
        and folder.is_dir()
        and int(folder.name) <= _MAX_VERSION
    )

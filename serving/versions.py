"""Manages the versions of a model on disk: lists, publishes, rolls back, restores and prunes."""

import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Collection
from typing import TypeAlias

from cmclrec_tf.errors import InputError

_Path: TypeAlias = str | os.PathLike[str]

_MAX_VERSION = 2**63 - 1
# Two prefixes and a suffix of folder names; servers ignore such folders, which are not numbers.
_PUBLISHING, _REMOVING, ROLLED_BACK = ".publishing-", ".removing-", ".rolled-back"
_STALE_SECONDS = 3600


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
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    numbers = [name[: -len(ROLLED_BACK)] for name in names if name.endswith(ROLLED_BACK)]
    return {int(v): base / f"{v}{ROLLED_BACK}" for v in sorted(numbers) if v.isdigit()}


def publish(source: _Path, model_base_path: _Path) -> tuple[int, pathlib.Path]:
    """Copies a SavedModel to the base path as the newest version.

    The copy is written to a temporary folder, synced to disk and then renamed, so a server that
    watches the base path never sees a part of a version. Temporary folders of interrupted calls
    are removed after an hour.

    Args:
        source: folder of the SavedModel.
        model_base_path: folder of the versions, on a local file system; created if missing.

    Returns:
        The version and its folder. The version is the Unix time in seconds, or one more than the
        newest version, whichever is larger.

    Raises:
        InputError: the source holds no SavedModel.
    """
    source, base = pathlib.Path(source), pathlib.Path(model_base_path)
    if not _is_complete(source):
        raise InputError(source, "it must hold saved_model.pb", "Export the model again.")
    base.mkdir(parents=True, exist_ok=True)
    _remove_stale(base)
    temporary = pathlib.Path(tempfile.mkdtemp(dir=base, prefix=_PUBLISHING))
    # The copy has the source's age, but the folder around it is new, and so is not stale.
    copy = temporary / "copy"
    try:
        # A version counts as complete once it has this file, so the file is copied last.
        skip = lambda folder, names: ["saved_model.pb"] if pathlib.Path(folder) == source else []
        shutil.copytree(source, copy, ignore=skip)
        shutil.copy2(source / "saved_model.pb", copy)
        copy.chmod(0o755)  # the source may be private; servers run as another user
        for path in [*copy.rglob("*"), copy]:
            _sync(path)
        while True:
            newest = max([*_versions(base), *rolled_back(base)], default=0)
            version = max(int(time.time()), newest + 1)
            try:
                copy.rename(base / str(version))
                break
            except OSError:
                # Another process published this number in the meantime.
                if not (base / str(version)).exists():
                    raise
        _sync(base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
        InputError: there is no such complete version, or none before the newest.
    """
    base = pathlib.Path(model_base_path)
    complete, versions = available(base), sorted(_versions(base))
    earlier = sorted(complete)[:-1]
    if to is None and not earlier:
        raise InputError(base, "there must be a version before the newest", "Push one first.")
    to = earlier[-1] if to is None else to
    _check_among(base, complete, to, "complete version")
    moved = [version for version in versions if version > to]
    for version in moved:
        (base / str(version)).rename(base / f"{version}{ROLLED_BACK}")
    return to, moved


def restore(model_base_path: _Path, version: int) -> None:
    """Brings back a version that was rolled back.

    Raises:
        InputError: there is no such version, or its folder exists already.
    """
    base = pathlib.Path(model_base_path)
    _check_among(base, rolled_back(base), version, "version that was rolled back")
    if (base / str(version)).exists():
        raise InputError(
            base / str(version), "there must be none yet", "Remove or rename that folder first."
        )
    (base / f"{version}{ROLLED_BACK}").rename(base / str(version))


def prune(model_base_path: _Path, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Removes old versions.

    Args:
        model_base_path: folder of the versions.
        keep: number of newest complete versions to keep.
        protected: versions to keep regardless of their age.

    Returns:
        The removed versions, oldest first.

    Raises:
        InputError: there is no such folder, or `keep` is below 1.
    """
    if keep < 1:
        raise InputError(f"keep={keep}", "at least one version stays", "Pass a positive number.")
    base = pathlib.Path(model_base_path)
    newest = sorted(available(base), reverse=True)[:keep]
    if not newest:
        return []
    oldest = min(newest)
    removed = [v for v in sorted(_versions(base)) if v < oldest and v not in protected]
    for version in removed:
        # Rename first: a server must not find half a version.
        doomed = base / f"{_REMOVING}{version}"
        (base / str(version)).rename(doomed)
        shutil.rmtree(doomed)
    return removed


def _check_among(base: pathlib.Path, among: Collection[int], version: int, kind: str) -> None:
    if version not in among:
        raise InputError(
            f"version {version} of {base}",
            f"it must be a {kind}; there are {sorted(among) or 'none'}",
            "Choose one of them.",
        )


def _remove_stale(base: pathlib.Path) -> None:
    """Removes temporary folders that interrupted calls left over an hour ago."""
    for path in base.iterdir():
        is_temporary = path.name.startswith((_PUBLISHING, _REMOVING))
        if is_temporary and path.stat().st_mtime < time.time() - _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_complete(folder: pathlib.Path) -> bool:
    return (folder / "saved_model.pb").is_file()


def _versions(model_base_path: _Path) -> dict[int, pathlib.Path]:
    """Returns the folders named by integers, complete or not, as TensorFlow Serving sees them."""
    base = pathlib.Path(model_base_path)
    if not base.is_dir():
        raise InputError(
            base, "the model base path must be a folder", "Run the pipeline or correct the path."
        )
    return {
        int(folder.name): folder
        for folder in sorted(base.iterdir())
        if re.fullmatch("[0-9]+", folder.name)
        and folder.is_dir()
        and int(folder.name) <= _MAX_VERSION
    }

"""The versions of a model: which there are, and how one comes, steps back and goes."""

import os
import pathlib
import re
import shutil
import tempfile
import time

from cmclrec_tf.errors import InputError

_NEWEST = 2**63 - 1
# Names that no server takes for a version.
_COMING, _GOING, ROLLED_BACK = ".publishing-", ".removing-", ".rolled-back"
_STALE_SECONDS = 3600


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


def rolled_back(model_base_path):
    """{version: folder} of the versions that were moved aside."""
    base = pathlib.Path(model_base_path)
    names = [path.name for path in base.iterdir()] if base.is_dir() else []
    found = [name[: -len(ROLLED_BACK)] for name in names if name.endswith(ROLLED_BACK)]
    return {int(v): base / f"{v}{ROLLED_BACK}" for v in sorted(found) if v.isdigit()}


def publish(source, model_base_path):
    """Makes a SavedModel the newest version, all at once.

    It is copied aside, `saved_model.pb` last, written through to the disk and then renamed: whoever
    watches the folder sees a whole version or none. What earlier calls left that were interrupted
    is removed after an hour.

    Args:
        source: folder of the SavedModel.
        model_base_path: folder of the versions, on a local file system; made when missing.

    Returns:
        The version, the time in seconds or one more than the newest, and its folder.

    Raises:
        InputError: the source holds no SavedModel.
    """
    source, base = pathlib.Path(source), pathlib.Path(model_base_path)
    if not _is_complete(source):
        raise InputError(source, "it must hold saved_model.pb", "Export the model again.")
    base.mkdir(parents=True, exist_ok=True)
    _sweep(base)
    aside = pathlib.Path(tempfile.mkdtemp(dir=base, prefix=_COMING))
    # A folder within: the copy takes over the age of the source, by which leftovers are told.
    copy = aside / "copy"
    try:
        last = lambda folder, names: ["saved_model.pb"] if pathlib.Path(folder) == source else []
        shutil.copytree(source, copy, ignore=last)
        shutil.copy2(source / "saved_model.pb", copy)
        copy.chmod(0o755)  # the source may be private; servers run as another user
        for path in [*copy.rglob("*"), copy]:
            _write_through(path)
        while True:
            newest = max([*_versions(base), *rolled_back(base)], default=0)
            version = max(int(time.time()), newest + 1)
            try:
                copy.rename(base / str(version))
                break
            except OSError:
                # Another one was published under that number meanwhile.
                if not (base / str(version)).exists():
                    raise
        _write_through(base)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return version, base / str(version)


def roll_back(model_base_path, to=None):
    """Moves the versions above one aside, so that it is the newest.

    The newest goes last: a server that watches goes straight from it to the wanted one.

    Args:
        model_base_path: folder of the versions.
        to: the version wanted; the one before the newest when None.

    Returns:
        The version wanted, and those that were moved, oldest first.

    Raises:
        InputError: there is no such complete version, or none before the newest.
    """
    base = pathlib.Path(model_base_path)
    complete, every = available(base), sorted(_versions(base))
    earlier = sorted(complete)[:-1]
    if to is None and not earlier:
        raise InputError(base, "there must be a version before the newest", "Push one first.")
    to = earlier[-1] if to is None else to
    _find(base, complete, to, "complete version")
    moved = [version for version in every if version > to]
    for version in moved:
        (base / str(version)).rename(base / f"{version}{ROLLED_BACK}")
    return to, moved


def restore(model_base_path, version) -> None:
    """Takes a version back that was moved aside.

    Raises:
        InputError: there is no such version, or its place is taken.
    """
    base = pathlib.Path(model_base_path)
    _find(base, rolled_back(base), version, "version that was rolled back")
    if (base / str(version)).exists():
        raise InputError(
            base / str(version), "there must be none yet", "Remove or rename that folder first."
        )
    (base / f"{version}{ROLLED_BACK}").rename(base / str(version))


def prune(model_base_path, keep, protected=()):
    """Removes old versions.

    Args:
        model_base_path: folder of the versions.
        keep: how many of the newest complete ones stay.
        protected: versions that stay whatever their age.

    Returns:
        The versions removed, oldest first.

    Raises:
        InputError: no such folder, or fewer than one to keep.
    """
    if keep < 1:
        raise InputError(f"keep={keep}", "at least one version stays", "Give a positive number.")
    base = pathlib.Path(model_base_path)
    kept = sorted(available(base), reverse=True)[:keep]
    if not kept:
        return []
    oldest = min(kept)
    removed = [v for v in sorted(_versions(base)) if v < oldest and v not in protected]
    for version in removed:
        # A server must not find half a version.
        aside = base / f"{_GOING}{version}"
        (base / str(version)).rename(aside)
        shutil.rmtree(aside)
    return removed


def _find(base, among, version, what):
    if version not in among:
        raise InputError(
            f"version {version} of {base}",
            f"it must be a {what}; there are {sorted(among) or 'none'}",
            "Choose one of them.",
        )


def _sweep(base):
    for path in base.iterdir():
        left = path.name.startswith((_COMING, _GOING))
        if left and path.stat().st_mtime < time.time() - _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _write_through(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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

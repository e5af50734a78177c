"""Writes files and folders in one step, and reports full disks in one line."""

import contextlib
import errno
import itertools
import os
import pathlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import leftovers

if TYPE_CHECKING:
    import numpy.typing as npt

_NO_SPACE = ("no space left on device", "Free some space on its disk")
# {error: (rule, fix)}
_FULL = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: ("file too large", "Raise the limit on the size of files (ulimit -f)"),
}
# HDF5 and sqlite have words of their own; TensorFlow and Beam pass on those of the system.
_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full|errno = (?:28|122)\b"
)
# TensorFlow names the file in front of the reason: "/folder/file; No space left on device".
_PATH = re.compile(r"(/[^\s;'\"]+)['\"]?[;:] (?:No space left on device|Disk quota exceeded)")
_AFTER = re.compile(r"(?:No space left on device|Disk quota exceeded):? ['\"]?(/[^\s;'\"]+)")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a path to write to, which becomes `path` when the context ends without error.

    Until then readers see the older file, or none.

    Args:
        path: path of the file, in an existing folder.

    Raises:
        InputError: the disk is full.
    """
    path = pathlib.Path(path)
    try:
        # A folder of its own, as some writers look at the name and others write more than one file.
        with next_to(path) as temporary:
            written = temporary / path.name
            yield written
            sync(written)
            os.replace(written, path)
            sync(path.parent)
    except Exception as error:
        if is_full(error):
            raise no_space(path, error) from error
        raise


@contextlib.contextmanager
def next_to(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary folder in the folder of `path`; those of dead processes are removed."""
    path = pathlib.Path(path)
    prefix = f".{path.name}.new-"
    leftovers.remove_left(path.parent, prefix)
    with leftovers.temporary_folder(path.parent, prefix) as folder:
        yield folder


def write_npz(file: BinaryIO, arrays: Mapping[str, "npt.ArrayLike"]) -> None:
    """Writes what `numpy.savez` does: plain arrays, no pickle.

    After an error, such as that of a full disk, NumPy leaves an open archive behind, which prints a
    traceback when it is collected. This one is closed.

    Args:
        file: open for writing, and seekable.
        arrays: `{name: array}`.
    """
    import numpy as np

    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, np.asanyarray(array), allow_pickle=False)


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Renames the folder `new`, in the same file system, to `folder`; an older one is removed.

    An older folder comes back if the new one cannot take its place, and when the process is
    stopped in between. Of several processes that do this at once, the last one wins.
    """
    with next_to(folder) as temporary:
        old = temporary / "0"
        try:
            for number in itertools.count():
                old = temporary / str(number)
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(old)
                try:
                    new.rename(folder)
                    break
                except OSError as error:
                    # Another process has put its folder there in the meantime.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
        except BaseException:
            with contextlib.suppress(OSError):  # there is none, or a newer one is in its place
                old.rename(folder)
            raise


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: str | os.PathLike[str], fix: str) -> pathlib.Path:
    """Makes a folder if it is missing, and tries to write into it.

    Args:
        path: path of the folder.
        fix: what the user can do if this fails, for the error.

    Returns:
        The path.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        rule = f"it must be a folder that can be written ({error.strerror})"
        raise InputError(path, rule, fix) from error


def full_disk(
    error: BaseException | None, folders: Iterable[str | os.PathLike[str]] = ()
) -> InputError | None:
    """Returns the one-line error if a full disk is the reason of `error`, or None.

    Libraries wrap the reason in errors of their own, or pass it on as text.

    Args:
        error: the error, with its causes and contexts.
        folders: folders that were written, in case the error names no file.
    """
    causes = [cause for cause in _chain(error) if is_full(cause)]
    if not causes:
        return None
    paths = filter(None, map(_path, causes))
    path = next(paths, "") or _fullest(folders) or "a disk that the command writes to"
    return no_space(path, causes[0])


def is_full(error: BaseException) -> bool:
    """Returns whether an error by itself says that a disk is full."""
    is_system = isinstance(error, OSError) and error.errno in _FULL
    return is_system or bool(_WORDS.search(str(error)))


def no_space(path: str | os.PathLike[str], error: BaseException) -> InputError:
    """Returns the one-line error of a full disk: for `path`, by the reason of `error`."""
    number = error.errno if isinstance(error, OSError) else None
    rule, fix = _FULL.get(number or errno.ENOSPC, _NO_SPACE)
    return InputError(path, rule, f"{fix}, then run the same command again.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error with its causes and contexts."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _path(error: BaseException) -> str:
    """Returns the path that an error names, or ""."""
    text = str(error)
    match = _PATH.search(text) or _AFTER.search(text)
    name = error.filename if isinstance(error, OSError) else None
    return str(name or (match and match[1]) or "")


def _fullest(folders: Iterable[str | os.PathLike[str]]) -> str:
    """Returns the folder whose disk has the least space; "" without folders."""
    existing = [str(folder) for folder in folders if os.path.isdir(folder)]
    if existing:
        existing.append(tempfile.gettempdir())
    return min(existing, key=lambda folder: shutil.disk_usage(folder).free, default="")

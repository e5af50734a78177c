"""Copies folders; errors of the file system are one line with the path and the fix."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import is_full, no_space, sync

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def writing(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error of the file system into one line with the path and the fix.

    Args:
        folder: what is written, for errors that name no path.

    Raises:
        InputError: the disk is full, the folder cannot be written, or another error.
    """
    try:
        yield
    except OSError as error:
        # A rename has two paths; the second one is the new one.
        path = error.filename2 or error.filename or folder
        if is_full(error):
            raise no_space(path, error) from error
        fix = "Correct that"
        if error.errno in _FORBIDDEN:
            fix = "Make its folder one that this user can write"
        raise InputError(
            path,
            f"it must be possible to read and write it ({error.strerror or error})",
            f"{fix}, then run the same command again.",
        ) from error


def copy_folder(source: pathlib.Path, target: pathlib.Path, last: str) -> None:
    """Copies a folder and waits until all of it is on the disk.

    Args:
        source: the folder.
        target: path of the copy, which must not exist.
        last: name of the file that is copied last.

    Raises:
        InputError: see `writing`.
    """

    def copy(file: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
        # copytree would continue after an error of the system, and raise a list of errors.
        with writing(to):
            shutil.copy2(file, to)

    skip = lambda folder, names: [last] if pathlib.Path(folder) == source else []
    with writing(target):
        shutil.copytree(source, target, ignore=skip, copy_function=copy)
        copy(source / last, target / last)
        for path in [*target.rglob("*"), target]:
            sync(path)

"""Temporary folders that another process removes once the process that made them is dead."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

# Only where the file system has no locks: nothing else shows whether a folder is in use.
_STALE_SECONDS = 3600

# Descriptors of the locks of this process.
_held: set[int] = set()


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[pathlib.Path]:
    """Yields a new folder, and removes it at the end.

    The folder is locked meanwhile. The lock ends with the process, however it ends; a forked child
    has no part in it.

    Args:
        parent: an existing folder.
        prefix: first part of the name.
    """
    folder, descriptor = _locked(pathlib.Path(parent), prefix)
    _held.add(descriptor)
    try:
        yield folder
    finally:
        if descriptor in _held:  # else this is a forked child
            shutil.rmtree(folder, ignore_errors=True)
            _held.discard(descriptor)
            os.close(descriptor)


def remove_left(parent: str | os.PathLike[str], *prefixes: str) -> None:
    """Removes the temporary folders of dead processes.

    Args:
        parent: the folder that holds them.
        prefixes: the prefixes that `temporary_folder` makes them with.
    """
    for path in pathlib.Path(parent).iterdir():
        if not path.name.startswith(prefixes):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # it is gone, or no folder
            continue
        try:
            if _is_left(descriptor):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def _locked(parent: pathlib.Path, prefix: str) -> tuple[pathlib.Path, int]:
    """Returns a new folder and the descriptor that holds its lock."""
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        # Before it is locked, another process may take it for a left one and remove it.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return folder, descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)


def _is_left(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return os.fstat(descriptor).st_mtime < time.time() - _STALE_SECONDS
    return True


def _in_child() -> None:
    """Closes the locks in a forked child, which may outlive the process that holds them."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_in_child)

"""Locks that one process at a time holds, and that end with it, however it ends.

A forked child does not hold the locks of its parent. Where the file system has no locks,
commands continue without them, and a line says so.
"""

import contextlib
import datetime
import errno
import fcntl
import os
import pathlib
import platform
import sys
import threading
import time
from collections.abc import Iterator

from cmclrec_tf.errors import InputError

# Lustre without `flock`, and some file systems of FUSE.
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)
# Who asks for the holder has the lock for a moment.
_TRIES = 5
_RETRY_SECONDS = 0.05

# {(thread, path): descriptor} of the locks of this process.
_held: dict[tuple[int, str], int] = {}
_without_locks: set[str] = set()


@contextlib.contextmanager
def waiting(path: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the lock `path`; waits until it is free, and prints for whom.

    A thread that holds it already enters at once.

    Args:
        path: file of the lock, which stays; its folder is made if it is missing.
    """
    with _lock(path, None):
        yield


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], value: object, fix: str) -> Iterator[None]:
    """Holds the lock `path`, or fails.

    Args:
        path: see `waiting`.
        value: what the lock protects, for the error.
        fix: what else the user can do, for the error.

    Raises:
        InputError: another process or thread holds it; the error names the process.
    """
    with _lock(path, (value, fix)):
        yield


def holder(path: str | os.PathLike[str]) -> str | None:
    """Returns which process holds the lock `path`, in words, or None."""
    try:
        with open(path, "rb") as file:
            # Shared, so that those who ask at once do not take each other for the holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _text(path)
    except OSError:
        pass
    return None


@contextlib.contextmanager
def _lock(path: str | os.PathLike[str], refusal: tuple[object, str] | None) -> Iterator[None]:
    key = threading.get_ident(), os.path.realpath(path)
    if key in _held:
        yield
        return
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        _acquire(descriptor, path, refusal)
    except BaseException:
        os.close(descriptor)
        raise
    _held[key] = descriptor
    try:
        # Only for people: the lock is the kernel's, and a full disk leaves the text out.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _myself().encode("utf-8", "replace"))
        yield
    finally:
        if _held.pop(key, None) is not None:  # else this is a forked child
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _open(path: str | os.PathLike[str]) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS) or not os.path.exists(path):
            raise
        return os.open(path, os.O_RDONLY)  # of another user, or on read-only storage


def _acquire(
    descriptor: int, path: str | os.PathLike[str], refusal: tuple[object, str] | None
) -> None:
    """Takes the lock; while it is held elsewhere, raises the `refusal`, or waits without one."""
    try:
        for _ in range(_TRIES):
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_RETRY_SECONDS)
        if refusal:
            raise InputError(refusal[0], f"{_text(path)} is using it", refusal[1])
        print(f"Waiting for {_text(path)} to end ...", file=sys.stderr, flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        folder = os.path.dirname(os.path.realpath(path))
        if folder not in _without_locks:
            _without_locks.add(folder)
            line = f"{folder}: its file system has no locks; run one command at a time on it"
            print(line, file=sys.stderr, flush=True)


def _myself() -> str:
    name = pathlib.Path(sys.argv[0]).name if sys.argv else ""
    words = [name if name != "cli.py" else "cmclrec", *sys.argv[1:3]]
    now = datetime.datetime.now().isoformat(" ", timespec="seconds")
    return f"process {os.getpid()} on {platform.node()} ({' '.join(words)}, since {now})"


def _text(path: str | os.PathLike[str]) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return pathlib.Path(path).read_text() or "another process"
    return "another process"


def _in_child() -> None:
    """Closes the locks in a forked child, which may outlive the process that holds them."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_in_child)

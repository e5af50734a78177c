"""Locks that one process at a time holds, and that end with it, however it ends."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import platform
import sys
import threading
from collections.abc import Iterator

from cmclrec_tf.errors import InputError

_held: set[tuple[int, str]] = set()


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
            if _acquire(file.fileno()):
                return None
            return _text(path)
    except OSError:
        return None


@contextlib.contextmanager
def _lock(path: str | os.PathLike[str], refusal: tuple[object, str] | None) -> Iterator[None]:
    key = threading.get_ident(), os.path.realpath(path)
    if key in _held:
        yield
        return
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if not _acquire(file.fileno()):
            if refusal:
                raise InputError(refusal[0], f"{_text(path)} is using it", refusal[1])
            print(f"Waiting for {_text(path)} to end ...", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        # Only for people: the lock is the kernel's, and a full disk leaves the text out.
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), _myself().encode("utf-8", "replace"))
        _held.add(key)
        try:
            yield
        finally:
            _held.discard(key)
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)


def _acquire(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _myself() -> str:
    name = pathlib.Path(sys.argv[0]).name if sys.argv else ""
    words = [name if name != "cli.py" else "cmclrec", *sys.argv[1:3]]
    now = datetime.datetime.now().isoformat(" ", timespec="seconds")
    return f"process {os.getpid()} on {platform.node()} ({' '.join(words)}, since {now})"


def _text(path: str | os.PathLike[str]) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return pathlib.Path(path).read_text() or "another process"
    return "another process"

"""Sends the output of libraries to a log file instead of the terminal."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from pipeline.storage.folders import AnyPath


@contextlib.contextmanager
def quiet(path: AnyPath) -> Iterator[None]:
    """Sends log messages, warnings and the output of native code to a file while it is active.

    `print`, progress bars and all else that writes to `sys.stdout` or `sys.stderr` stay visible.

    Args:
        path: path of the log file. The output is appended, and the folder is made if it is missing.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.ExitStack() as stack:
        log = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        stack.callback(_close, log)
        stack.enter_context(_native_stderr(log))
        stack.enter_context(_logging(log))
        yield


class _Handler(logging.StreamHandler):
    """Leaves out what cannot be written: a full disk must not hide the error that names it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Does nothing, where `logging` prints a traceback for every message."""


def _close(log: TextIO) -> None:
    with contextlib.suppress(OSError):
        log.close()


@contextlib.contextmanager
def _logging(log: TextIO) -> Iterator[None]:
    root = logging.getLogger()
    handler = _Handler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _native_stderr(log: TextIO) -> Iterator[None]:
    """Redirects file descriptor 2, which native code writes to; `sys.stderr` keeps the terminal."""
    visible = sys.stderr
    visible.flush()
    saved = os.dup(2)
    os.dup2(log.fileno(), 2)
    terminal = open(os.dup(saved), "w", buffering=1)  # noqa: SIM115
    if _descriptor(visible) == 2:
        sys.stderr = terminal
    try:
        yield
    finally:
        sys.stderr = visible
        terminal.close()
        os.dup2(saved, 2)
        os.close(saved)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None

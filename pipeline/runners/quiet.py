"""Keeps what libraries say out of the terminal and in a log file."""

import contextlib
import logging
import os
import sys
import warnings


@contextlib.contextmanager
def quiet(path):
    """Within the context, logging, warnings and what native code writes go to the file `path`.

    `print`, progress bars and anything else that writes to `sys.stdout` or `sys.stderr` stay
    visible.

    Args:
        path: of the log file; it is appended to, and its folder is made.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(path, "a", encoding="utf-8", errors="backslashreplace"))
        stack.enter_context(_native_stderr(log))
        stack.enter_context(_logging(log))
        yield


@contextlib.contextmanager
def _logging(log):
    root = logging.getLogger()
    handler = logging.StreamHandler(log)
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
def _native_stderr(log):
    """Native code writes to file descriptor 2, past `sys.stderr`, which keeps the terminal."""
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


def _descriptor(stream):
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None

"""Runs a server until SIGTERM or Ctrl-C, and ends its process in time, whatever still runs.

Python runs signal handlers in the main thread only, and not while that thread is inside native
code, which imports TensorFlow and loads models for seconds. So the server runs in another thread,
and the main thread waits for signals. It ends the process without Python's own shutdown, which
waits for every thread of every pool and for TensorFlow to take down its state.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from serving.server.logs import event

_LOG = logging.getLogger(__name__)
_NUMBERS = (signal.SIGINT, signal.SIGTERM)
# Time to close what is left after the grace of the requests under way.
CLOSE_SECONDS = 2.0


class Run:
    """State that `until_signal` shares with the function that it calls.

    Attributes:
        serving: set by the function before it accepts the first request; until then a signal ends
            the process at once.
        stop: set by the first signal after that.
    """

    def __init__(self) -> None:
        self.serving = threading.Event()
        self.stop = threading.Event()


def until_signal(serve: Callable[[Run], None], grace: float) -> None:
    """Calls `serve` in a thread, and ends the process after a signal.

    The exit status is 0 if the server stopped in order, and 128 plus the number of the signal if
    the signal came before the server accepted requests, or was the second one.

    Args:
        serve: serves until `stop` of its argument is set, and then stops within `grace`.
        grace: seconds for the requests under way.

    Raises:
        Exception: the error of `serve`; without an error, the process ends.
    """
    # A SimpleQueue is safe in a signal handler, which may interrupt a wait for the same queue.
    events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    run, errors = Run(), []

    def work() -> None:
        try:
            serve(run)
        except BaseException as error:
            errors.append(error)
        finally:
            events.put(None)

    before = {number: signal.getsignal(number) for number in _NUMBERS}
    for number in _NUMBERS:
        signal.signal(number, lambda number, _frame: events.put(number))
    try:
        threading.Thread(target=work, name="server", daemon=True).start()
        _watch(run, events, grace)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if errors:
        raise errors[0]
    _end(0)


def _watch(run: Run, events: queue.SimpleQueue[int | None], grace: float) -> None:
    """Returns when the server has ended; ends the process if it must not be waited for."""
    end_by: float | None = None
    while True:
        try:
            number = events.get(timeout=None if end_by is None else end_by - time.monotonic())
        except (queue.Empty, ValueError):  # a ValueError if the time is over already
            event(_LOG, logging.WARNING, "stop cut off", grace_seconds=grace)
            _end(0)
        if number is None:
            return
        if end_by is not None or not run.serving.is_set():
            _end(128 + number)
        end_by = time.monotonic() + grace + CLOSE_SECONDS
        run.stop.set()


def _end(status: int) -> NoReturn:
    """Ends the process at once; threads that still run cannot hold it up."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads them any more
    finally:
        os._exit(status)

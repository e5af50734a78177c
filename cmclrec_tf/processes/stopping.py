"""Ends a command on Ctrl-C or SIGTERM: with one line, the shell's exit status, and in any case.

Python raises an exception in the main thread when a signal arrives. That alone is not enough here:
native code may run for minutes before the exception is raised, libraries catch it or wrap it in
errors of their own, and their threads keep the process alive after it. So a second thread, which
the operating system wakes, ends the process a few seconds later.
"""

import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 10.0

_received: int | None = None
_quiet = False


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end. What cleans up after Ctrl-C cleans up after it as well."""


def install(grace: float = GRACE_SECONDS, quiet: bool = False) -> None:
    """Lets SIGINT and SIGTERM raise `Stopped` in the main thread; the second one ends the process.

    A signal that the parent ignores, as `nohup` does, stays ignored.

    Args:
        grace: seconds from the signal to the end of the process, whatever the main thread does.
        quiet: whether the line that says why the process ends is left out.
    """
    global _quiet
    _quiet = quiet
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    # The thread keeps both ends of the pair alive.
    threading.Thread(target=_watch, args=(reader, writer, grace), daemon=True).start()


def received() -> int | None:
    """Returns the number of the signal that asked this process to end, or None."""
    return _received


def end() -> NoReturn:
    """Ends the process after a signal; threads that still run cannot hold it up."""
    number = _received or signal.SIGINT
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    try:
        sys.stdout.flush()
        if not _quiet:
            print(f"stopped by {name}", file=sys.stderr)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # the terminal is gone
    finally:
        os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        end()
    _received = number
    raise Stopped


def _watch(reader: socket.socket, _writer: socket.socket, grace: float) -> None:
    """Waits for a signal, and then for `grace` seconds."""
    global _received
    while True:
        for number in reader.recv(64):
            # A server has handlers of its own, and answers what is under way first.
            if number in NUMBERS and signal.getsignal(number) is _raise:
                threading.Event().wait(grace)
                _received = _received or number
                end()

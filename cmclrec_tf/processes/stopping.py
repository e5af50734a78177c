"""Ends a command on Ctrl-C or SIGTERM: with one line, the shell's exit status, and in any case.

Python raises an exception in the main thread when a signal arrives. That alone is not enough here:
native code may run for minutes before the exception is raised, libraries catch it or wrap it in
errors of their own, and their threads keep the process alive after it. So a second thread, which
the operating system wakes, ends the process a few seconds later.
"""

import contextlib
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
_wakeup: int | None = None
_quiet = False
# The signals that a thread which forks held back before.
_held = threading.local()


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end. What cleans up after Ctrl-C cleans up after it as well."""


def install(grace: float = GRACE_SECONDS, quiet: bool = False) -> None:
    """Lets SIGINT and SIGTERM raise `Stopped` in the main thread; the second one ends the process.

    A signal that the parent ignores, as `nohup` does, stays ignored. A forked child, such as
    that of `multiprocessing.Pool`, has the handlers of Python.

    Args:
        grace: seconds from the signal to the end of the process, whatever the main thread does.
        quiet: whether the line that says why the process ends is left out.
    """
    global _quiet, _wakeup
    _quiet = quiet
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    _wakeup = writer.fileno()
    signal.set_wakeup_fd(_wakeup, warn_on_full_buffer=False)
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


def _before_fork() -> None:
    """Holds signals back: Python forgets one that reaches a child before its handlers are set."""
    if _wakeup is not None:
        _held.before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)


def _release() -> None:
    """Lets signals through again, as before the fork."""
    if hasattr(_held, "before"):
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.before)
        del _held.before


def _in_child() -> None:
    """Leaves the signals of a forked child to Python: its wake-ups would end the parent."""
    global _received, _wakeup
    if _wakeup is None:
        return
    with contextlib.suppress(ValueError):  # the descriptor of another library is closed
        current = signal.set_wakeup_fd(-1)
        if current != _wakeup:
            signal.set_wakeup_fd(current, warn_on_full_buffer=False)
    for number in NUMBERS:
        if signal.getsignal(number) is _raise:
            is_ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
    _received = _wakeup = None
    _release()  # a signal that came since the fork arrives now


os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_in_child)

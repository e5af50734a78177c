"""Prints how long a component has been running, as long as it prints nothing itself."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

# Seconds between two lines. A terminal shows them in place, a file keeps all of them.
ON_TERMINAL, IN_FILE = 5.0, 30.0

# Beam's runner names here each step that it begins. No public API says so (Beam 2.74).
_BEAM_STEPS = "apache_beam.runners.portability.fn_api_runner.fn_runner.run_bundle"


@contextlib.contextmanager
def ticking(title: str, pause: float | None = None) -> Iterator[None]:
    """Prints the title, the seconds since the start and the number of Beam's step at intervals.

    Nothing is printed until nothing else has been for `pause` seconds. A progress bar on a
    terminal, which leaves its line open, is left alone.

    Args:
        title: name of the component, printed before.
        pause: seconds between two lines; None takes ON_TERMINAL or IN_FILE.
    """
    watched = _Watched(sys.stderr)
    steps = _BeamSteps()
    if pause is None:
        pause = ON_TERMINAL if watched.isatty() else IN_FILE
    done = threading.Event()
    thread = threading.Thread(target=_tick, args=(title, pause, watched, steps, done), daemon=True)
    sys.stderr = watched
    try:
        with steps.counted():
            thread.start()
            yield
    finally:
        done.set()
        thread.join()
        sys.stderr = watched.stream


class _Watched:
    """A text stream that knows when it was written to, and whether its line is open.

    Args:
        stream: the stream that takes the text. On a terminal its line holds the title.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.last = time.monotonic()
        self.is_line_open = False
        self._has_title = stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes the text, not behind the title on its line, and notes the time."""
        self.last = time.monotonic()
        if text:
            if self._has_title and text[0] not in "\r\n":
                self.stream.write("\n")
            self._has_title = False
            self.is_line_open = not text.endswith("\n")
        return self.stream.write(text)

    def tick(self, line: str) -> None:
        """Writes a line of the ticker: on a terminal in the place of the title."""
        self.stream.write(f"\r{line}" if self.isatty() else f"{line}\n")
        self.stream.flush()
        self._has_title = self.isatty()


class _BeamSteps(logging.Handler):
    """Counts the steps that Beam's local runner has begun."""

    def __init__(self) -> None:
        super().__init__()
        self._names: set[object] = set()

    @property
    def number(self) -> int:
        """Number of steps so far."""
        return len(self._names)

    def emit(self, record: logging.LogRecord) -> None:
        """Counts the step that the record names, once."""
        if str(record.msg).startswith("Running bundle for stage") and record.args:
            self._names.add(record.args[0] if isinstance(record.args, tuple) else "")

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Takes the records of Beam's logger, which nothing else gets."""
        logger = logging.getLogger(_BEAM_STEPS)
        level, propagates = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagates


def _tick(
    title: str, pause: float, watched: _Watched, steps: _BeamSteps, done: threading.Event
) -> None:
    start = printed = time.monotonic()
    while not done.wait(max(pause - (time.monotonic() - max(printed, watched.last)), 0.05)):
        now = time.monotonic()
        if now - max(printed, watched.last) < pause:
            continue
        printed = now
        if watched.is_line_open:
            continue
        step = f", step {steps.number}" if steps.number else ""
        line = f"{title} {now - start:.0f} s{step}"
        # A full disk or a closed terminal must not stop the component.
        with contextlib.suppress(OSError, ValueError):
            watched.tick(line)

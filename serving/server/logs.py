"""Writes logs as JSON, one object per line, without users' features or histories."""

import collections
import json
import logging
import sys
import threading
import time

_FIELDS = "cmclrec_fields"
ROOT = "serving"
# Records of one kind in one period that are written; the rest is counted.
MOST_RECORDS, PERIOD_SECONDS = 60, 60.0


def event(logger: logging.Logger, level: int, name: str, **fields: object) -> None:
    """Logs an event.

    Args:
        logger: logger to write to.
        level: level of `logging`.
        name: what happened, in two or three fixed words.
        fields: details of the event, as JSON values.
    """
    # The place in the code is that of the caller: `RateLimit` counts by it.
    logger.log(level, name, extra={_FIELDS: fields}, stacklevel=2)


def without_content(name: str) -> logging.Logger:
    """Returns a logger for a library whose messages may quote requests.

    Its records keep the place in the library and the type of the exception, but no text.

    Args:
        name: name of the logger below this package's.
    """
    logger = logging.getLogger(f"{ROOT}.{name}")
    if not logger.filters:
        logger.addFilter(_remove_content)
    return logger


def _remove_content(record: logging.LogRecord) -> bool:
    """Removes from a record whatever may quote a request; keeps the record."""
    fields: dict[str, object] = {"place": f"{record.module}:{record.lineno}"}
    if record.exc_info and record.exc_info[0]:
        fields["exception"] = record.exc_info[0].__name__
    name = record.name.removeprefix(f"{ROOT}.")
    record.msg, record.args = f"message of {name}", ()
    record.exc_info = record.exc_text = record.stack_info = None
    setattr(record, _FIELDS, fields)
    return True


class RateLimit(logging.Filter):
    """Drops warnings and errors of one kind after `MOST_RECORDS` in a period.

    The first record of the next period says how many were dropped. A kind is the place in the
    code that logs.
    """

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()
        self._starts: dict[tuple[str, int], float] = {}
        self._counts: collections.Counter[tuple[str, int]] = collections.Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.pathname, record.lineno), time.monotonic()
        with self._lock:
            dropped = 0
            if now - self._starts.get(kind, -PERIOD_SECONDS) >= PERIOD_SECONDS:
                dropped = max(0, self._counts[kind] - MOST_RECORDS)
                self._starts[kind], self._counts[kind] = now, 0
            self._counts[kind] += 1
            is_written = self._counts[kind] <= MOST_RECORDS
        if dropped:
            setattr(record, _FIELDS, {**getattr(record, _FIELDS, {}), "dropped": dropped})
        return is_written


class JsonLines(logging.Formatter):
    """Formats a record as {"time", "level", "event", ...fields}, with the time in UTC."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0]:
            # The message of an exception may quote its input.
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line)


def to_stderr(level: int = logging.INFO) -> None:
    """Sends the logs of this package, and those of libraries without content, to standard error.

    Exceptions that end a thread, or that Python cannot raise, are logged by their type.
    """
    _handle(logging.getLogger(ROOT), logging.StreamHandler(), level)
    handler = logging.StreamHandler()
    # The root logger gets what libraries log; their texts may quote requests.
    handler.addFilter(_remove_content)
    _handle(logging.getLogger(), handler, max(level, logging.WARNING))
    logger = logging.getLogger(f"{ROOT}.threads")
    threading.excepthook = lambda context: _log_exception(logger, context.exc_type)
    sys.unraisablehook = lambda context: _log_exception(logger, context.exc_type)


def _handle(logger: logging.Logger, handler: logging.Handler, level: int) -> None:
    handler.addFilter(RateLimit())
    handler.setFormatter(JsonLines())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level)


def _log_exception(logger: logging.Logger, kind: type[BaseException] | None) -> None:
    event(logger, logging.ERROR, "unhandled exception", reason=getattr(kind, "__name__", "unknown"))

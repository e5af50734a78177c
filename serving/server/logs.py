"""Writes logs as JSON, one object per line, without users' features or histories."""

import json
import logging
import time

_FIELDS = "cmclrec_fields"
ROOT = "serving"


def event(logger: logging.Logger, level: int, name: str, **fields: object) -> None:
    """Logs an event.

    Args:
        logger: logger to write to.
        level: level of `logging`.
        name: what happened, in two or three fixed words.
        fields: details of the event, as JSON values.
    """
    logger.log(level, name, extra={_FIELDS: fields})


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
    """Sends the logs of this package and of gRPC's Python layer to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in (ROOT, "grpc"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)

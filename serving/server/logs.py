"""Logs as one JSON object a line: what happened, never a user's features or history."""

import json
import logging
import time

_FIELDS = "cmclrec_fields"
ROOT = "serving"


def event(logger, level, name, **fields) -> None:
    """Logs an event.

    Args:
        name: what happened, in two or three words that do not change.
        fields: of it; JSON values.
    """
    logger.log(level, name, extra={_FIELDS: fields})


class JsonLines(logging.Formatter):
    """{"time", "level", "event", ...fields} of a record; the time is UTC."""

    converter = time.gmtime

    def format(self, record):
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            # The message of an exception may quote its input.
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line)


def to_stderr(level=logging.INFO) -> None:
    """Sends what this room and gRPC's Python layer log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in (ROOT, "grpc"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)

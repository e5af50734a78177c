"""Names the formats of times, and checks patterns."""

import datetime
import re

from cmclrec_tf.errors import InputError

# Seconds since 1970 with more decimals than nanoseconds have would not fit 64 bits.
MOST_DECIMALS = 9

# What times are written as: a number, ISO 8601, or else a pattern of `datetime.strptime`.
NUMBER = "number"
ISO8601 = "iso8601"


def check_time_format(time_format: str) -> None:
    """Checks that a format is known, or a pattern that reads the time it has written.

    Raises:
        InputError: it is neither.
    """
    if time_format in ("", NUMBER, ISO8601):
        return
    directives = set(re.findall("%(.)", time_format))
    if "Z" in directives:
        raise InputError(
            f"time_format={time_format!r}",
            "%Z reads the names of zones that this machine knows, and not the zone itself",
            "Use %z with times such as +02:00, or write the times in UTC without a zone.",
        )
    moment = datetime.datetime(2021, 11, 30, 13, 14, 15, tzinfo=datetime.timezone.utc)
    try:
        read = datetime.datetime.strptime(moment.strftime(time_format), time_format)
    except (ValueError, re.error):
        read = None
    if read is None or read.date() != moment.date():
        raise InputError(
            f"time_format={time_format!r}",
            f"it must be {NUMBER}, {ISO8601}, or a pattern of Python's strptime with year, month "
            "and day, such as '%d.%m.%Y %H:%M'",
            "Correct time_format in the dataset spec.",
        )
    has_minute = bool(directives & set("MSfcX"))
    has_hour = has_minute or bool(directives & set("HIp"))
    if (has_hour and read.hour != moment.hour) or (has_minute and read.minute != moment.minute):
        raise InputError(
            f"time_format={time_format!r}",
            "it must have the hour as %H, or as %I with %p, and the minute as %M if it has seconds",
            "Correct time_format in the dataset spec.",
        )

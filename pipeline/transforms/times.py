"""Reads times as integers: numbers in any unit, or dates as microseconds since 1970 in UTC."""

import datetime
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cmclrec_tf.errors import InputError
from pipeline.datasets.parquet_values import UNITS
from pipeline.datasets.table_specs import Interactions
from pipeline.datasets.time_formats import ISO8601, NUMBER
from pipeline.transforms.row_values import MalformedError, is_missing

if TYPE_CHECKING:
    import pyarrow as pa

_DECIMAL = re.compile(rb"([+-]?\d{1,40})(?:\.(\d*))?")
_ISO = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)"
    rb"(?:[Tt ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,40}))?)?)?"
    # BigQuery writes " UTC".
    rb"(?: ?(?:Z|z|UTC|([+-])(\d\d):?(\d\d)?))?)?"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_FIRST_YEAR = (datetime.date(1, 1, 1).toordinal() - _EPOCH_DAY) * 86_400 * 10**6
_SECOND = 10**6


def parse(text: bytes, table: Interactions) -> int:
    """Parses a time as an integer of 64 bits.

    Args:
        text: the time.
        table: the table; its `time_format`, `time_decimals`, `missing_time` and the name of its
            column count. A format that is not set counts as `number`.

    Returns:
        A number as it is, or with `time_decimals` as many digits after the point: 1.5 with 3
        decimals is 1500. Otherwise microseconds since 1970 in UTC; further digits are cut.

    Raises:
        MalformedError: the text does not have the format, or is too large.
    """
    if table.missing_time and is_missing({table.time: text}, table.time):
        text = table.missing_time.encode()
    return parse_text(text, table.time, table.time_format, table.time_decimals)


def parse_text(text: bytes, column: str, time_format: str, decimals: int = 0) -> int:
    """Parses a time of any column; see `parse`.

    Args:
        text: the time.
        column: name of its column, for the error.
        time_format: see `Interactions`.
        decimals: see `Interactions.time_decimals`.

    Raises:
        MalformedError: the text does not have the format, or is too large.
    """
    if time_format == ISO8601:
        return _iso(text, column)
    if time_format in ("", NUMBER):
        return _number(text, column, decimals)
    return _by_pattern(text, column, time_format)


def parse_setting(text: str, table: Interactions, setting: str, unit: str | None = None) -> int:
    """Parses a time of a setting, which is written as the times of the log are.

    Args:
        text: the time.
        table: see `parse`.
        setting: name of the setting, for the error.
        unit: one of `parquet_values.UNITS` if the column holds time stamps or dates of Parquet, ""
            if it does not. Unless it is None, ISO 8601 may stand for time stamps, dates and times
            of a pattern.

    Raises:
        InputError: the text is no such time.
    """
    value = text.strip().encode()
    try:
        has_dates = unit or table.time_format not in ("", NUMBER, ISO8601)
        if unit is not None and has_dates and _ISO.fullmatch(value):
            # Microseconds are exact, and so is their number of days.
            return _iso(value, table.time) * UNITS[unit or "us"] // UNITS["us"]
        return parse(value, table)
    except MalformedError as error:
        raise InputError(
            f"{setting}={text!r}",
            f"it is written as the times of the log, and {error}",
            "Write it as the times in the log.",
        ) from error


def parse_iso(texts: "pa.Array") -> np.ndarray | None:
    """Parses many times of ISO 8601 at once, if all of them have a zone or none of them has one.

    Args:
        texts: binary Arrow array [n].

    Returns:
        int64 [n], equal to the results of `parse`; None if the times must be parsed one by one.
    """
    import pyarrow as pa

    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            times = texts.view(pa.string()).cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        values = np.asarray(times)
        # Arrow also knows the year 0.
        return values if len(values) == 0 or values.min() >= _FIRST_YEAR else None
    return None


def guess_format(texts: Iterable[bytes]) -> str:
    """Returns `iso8601` if more of the texts are ISO 8601 than are numbers; otherwise `number`."""
    kinds = {NUMBER: 0, ISO8601: 0}
    for text in texts:
        kinds[NUMBER] += _DECIMAL.fullmatch(text) is not None
        kinds[ISO8601] += _ISO.fullmatch(text) is not None
    return max(kinds, key=kinds.__getitem__)


def _number(text, column, decimals):
    match = _DECIMAL.fullmatch(text)
    # RecBole and pandas write whole numbers as 12.0 where a column has missing values.
    if not match or (decimals == 0 and (match[2] or b"").strip(b"0")):
        kind = "a number" if decimals else "an integer"
        raise MalformedError(
            f"column {column!r} must be {kind}",
            f"If it holds dates, set time_format: {ISO8601} or a pattern such as '%d.%m.%Y %H:%M'.",
        )
    whole, fraction = match[1], match[2] or b""
    units = int(whole + fraction[:decimals].ljust(decimals, b"0"))
    if not -(1 << 63) <= units < 1 << 63:
        raise MalformedError(f"column {column!r} must fit 64 bits")
    return units


def _iso(text, column):
    match = _ISO.fullmatch(text)
    malformed = MalformedError(
        f"column {column!r} must be a time of ISO 8601, such as 2025-08-24T07:08:00+02:00",
        "Other times need another time_format.",
    )
    if not match:
        raise malformed
    year, month, day, hour, minute, second, fraction, sign, *zone = match.groups()
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise malformed from error
    hour, minute, second = int(hour or 0), int(minute or 0), int(second or 0)
    zone_hour, zone_minute = (int(part or 0) for part in zone)
    # A minute can have a leap second.
    if max(hour, zone_hour) > 23 or max(minute, zone_minute) > 59 or second > 60:
        raise malformed
    behind = (zone_hour * 60 + zone_minute) * (-1 if sign == b"-" else 1)
    seconds = ((days * 24 + hour) * 60 + minute - behind) * 60 + second
    return seconds * _SECOND + int((fraction or b"")[:6].ljust(6, b"0"))


def _by_pattern(text, column, pattern):
    try:
        moment = datetime.datetime.strptime(text.decode(), pattern)
    except (ValueError, OverflowError) as error:
        raise MalformedError(
            f"column {column!r} must be a time of the pattern {pattern!r}",
            "Other times need another time_format.",
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)

"""Parses the values of a row, and says what is wrong with a malformed one."""

import math
import re
from collections.abc import Mapping

import numpy as np

# Records hold numbers as float32.
_MOST = float(np.finfo(np.float32).max)
_DECIMAL = re.compile(rb"([+-]?\d{1,40})(?:\.(\d*))?")


class MalformedError(ValueError):
    """A malformed row. Its text is the rule that the row breaks, without values: they may be
    personal."""


def key(row: Mapping[str, bytes], column: str) -> bytes:
    """Returns a value that must not be empty.

    Raises:
        MalformedError: it is empty.
    """
    if not row[column]:
        raise MalformedError(f"column {column!r} must not be empty")
    return row[column]


def is_missing(row: Mapping[str, bytes], column: str) -> bool:
    """Returns whether there is no value: an empty field, null, or the NaN that pandas writes."""
    return not row[column] or row[column].lower() in (b"nan", b"null")


def time(row: Mapping[str, bytes], column: str, decimals: int) -> int:
    """Parses a time as an integer of 64 bits.

    Args:
        row: values by column.
        column: name of the column.
        decimals: number of digits after the point that are kept; 1.5 with 3 decimals is 1500.

    Raises:
        MalformedError: it is no number, has digits after the point though `decimals` is 0, or is
            too large.
    """
    match = _DECIMAL.fullmatch(row[column])
    # RecBole and pandas write whole numbers as 12.0 where a column has missing values.
    if not match or (decimals == 0 and (match[2] or b"").strip(b"0")):
        kind = "a number" if decimals else "an integer"
        raise MalformedError(f"column {column!r} must be {kind}")
    whole, fraction = match[1], match[2] or b""
    units = int(whole + fraction[:decimals].ljust(decimals, b"0"))
    if not -(1 << 63) <= units < 1 << 63:
        raise MalformedError(f"column {column!r} must fit 64 bits")
    return units


def numbers(
    row: Mapping[str, bytes], column: str, separator: bytes | None, count: int
) -> list[float]:
    """Parses a number or a vector of numbers.

    Args:
        row: values by column.
        column: name of the column.
        separator: text between the numbers; None for a single number.
        count: how many numbers there must be.

    Returns:
        The numbers; an empty list if one of them is missing.

    Raises:
        MalformedError: another number of numbers, or one that is no finite 32-bit float.
    """
    texts = row[column].split(separator) if separator and row[column] else [row[column]]
    if separator and row[column] and len(texts) != count:
        raise MalformedError(f"column {column!r} must hold {count} numbers")
    parsed = [_number(text.strip(), column) for text in texts]
    present = [number for number in parsed if number is not None]
    return present if len(present) == len(parsed) else []


def number(row: Mapping[str, bytes], column: str) -> float | None:
    """Parses a number; returns None if the value is empty or NaN.

    Raises:
        MalformedError: it is no finite 32-bit float.
    """
    return _number(row[column], column)


def _number(text: bytes, column: str) -> float | None:
    if not text:
        return None
    try:
        if b"_" in text:
            raise ValueError("only Python groups digits as in 1_000")
        value = float(text)
    except ValueError as error:
        raise MalformedError(f"column {column!r} must be a number") from error
    if abs(value) > _MOST:
        raise MalformedError(f"column {column!r} must be finite in 32 bits")
    return None if math.isnan(value) else value

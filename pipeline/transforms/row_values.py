"""Values of a row, and what is wrong with a malformed one."""

import math
import re

import numpy as np

# Records hold numbers as float32.
_MOST = float(np.finfo(np.float32).max)
_DECIMAL = re.compile(rb"([+-]?\d{1,40})(?:\.(\d*))?")


class MalformedError(ValueError):
    """A malformed row; its text is the rule. Values stay out of it, as they may be personal."""


def key(row, column):
    """A value that must not be empty, bytes."""
    if not row[column]:
        raise MalformedError(f"column {column!r} must not be empty")
    return row[column]


def is_missing(row, column):
    """Whether there is no value, as in an empty field or the NaN of pandas."""
    return not row[column] or row[column].lower() in (b"nan", b"null")


def time(row, column, decimals):
    """A time as an int64, in units of the last of its `decimals` digits behind the point."""
    found = _DECIMAL.fullmatch(row[column])
    # RecBole and pandas write whole numbers as 12.0 where a column has holes.
    if not found or (decimals == 0 and (found[2] or b"").strip(b"0")):
        kind = "a number" if decimals else "an integer"
        raise MalformedError(f"column {column!r} must be {kind}")
    whole, behind = found[1], found[2] or b""
    number = int(whole + behind[:decimals].ljust(decimals, b"0"))
    if not -(1 << 63) <= number < 1 << 63:
        raise MalformedError(f"column {column!r} must fit 64 bits")
    return number


def numbers(row, column, separator, count):
    """A list of as many numbers as `count`, empty when one is missing; all finite in 32 bits."""
    texts = row[column].split(separator) if separator and row[column] else [row[column]]
    if separator and row[column] and len(texts) != count:
        raise MalformedError(f"column {column!r} must hold {count} numbers")
    found = [_number(text.strip(), column) for text in texts]
    return [] if None in found else found


def number(row, column):
    """A float that is finite in 32 bits, or None when the value is empty or NaN."""
    return _number(row[column], column)


def _number(text, column):
    if not text:
        return None
    try:
        if b"_" in text:
            raise ValueError("groups of digits, as in 1_000, are Python's alone")
        found = float(text)
    except ValueError as error:
        raise MalformedError(f"column {column!r} must be a number") from error
    if abs(found) > _MOST:
        raise MalformedError(f"column {column!r} must be finite in 32 bits")
    return None if math.isnan(found) else found

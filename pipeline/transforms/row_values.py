"""Parses the values of a row, and says what is wrong with a malformed one."""

import math
import re
from collections.abc import Mapping

import numpy as np

from cmclrec_tf.data import text_forms

# Records hold numbers as float32.
_MOST = float(np.finfo(np.float32).max)
_DATE = re.compile(rb"\d{1,4}([-./])\d{1,2}\1\d")


class MalformedError(ValueError):
    """A malformed row.

    Args:
        rule: the rule that the row breaks, without values: they may be personal.
        fix: what to do if many rows break it; a sentence, or empty.
    """

    def __init__(self, rule: str, fix: str = ""):
        super().__init__(rule)
        self.fix = fix


def key(row: Mapping[str, bytes], column: str) -> bytes:
    """Returns an id, which must not be empty.

    Raises:
        MalformedError: it is empty, or see `token`.
    """
    if not row[column]:
        raise MalformedError(f"column {column!r} must not be empty")
    return token(row[column], column)


def token(text: bytes, column: str) -> bytes:
    """Returns an id or a value of a string feature, if a line of a vocabulary can hold it.

    Raises:
        MalformedError: it holds a line end. TensorFlow Transform would leave it out of the
            vocabulary without a word.
    """
    if not text_forms.is_one_line(text):
        raise MalformedError(f"column {column!r} must not hold a line end inside a value")
    return text


def is_missing(row: Mapping[str, bytes], column: str) -> bool:
    """Returns whether there is no value: an empty field, null, or the NaN that pandas writes."""
    return not row[column] or row[column].lower() in (b"nan", b"null")


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
        fix = "If it holds dates, it needs the kind date." if _DATE.match(text) else ""
        raise MalformedError(f"column {column!r} must be a number", fix) from error
    if abs(value) > _MOST:
        raise MalformedError(f"column {column!r} must be finite in 32 bits")
    return None if math.isnan(value) else value

"""Reads dates of ISO 8601 as days, by the same rule in Python and in TensorFlow's graphs.

A date is `2024-04-30`. A time of day in UTC may follow, as in `2024-04-30T07:08:00Z`; it does not
count. Anything else is no date.
"""

import datetime
import re

import tensorflow as tf

from cmclrec_tf.types import Tensor

_DATE = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| ?UTC)?)?"
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def days_of(text: str) -> int | None:
    """Returns the days from 1970-01-01 to a date; None for a text that is no date.

    Example:
        >>> days_of("1970-01-31"), days_of("1969-12-31T12:00:00Z"), days_of("2023-02-29")
        (30, -1, None)
    """
    text = text.strip(" \t\r\n\v\f")
    if not text.isascii() or not re.fullmatch(_DATE, text):
        return None
    try:
        return datetime.date.fromisoformat(text[:10]).toordinal() - _EPOCH
    except ValueError:
        return None


def days(texts: Tensor) -> Tensor:
    """Returns the days from 1970-01-01 to dates, as `days_of` does.

    Args:
        texts: strings of any shape.

    Returns:
        float32 of the same shape; NaN for a text that is no date.
    """
    texts = tf.strings.strip(texts)
    is_date = tf.strings.regex_full_match(texts, _DATE)
    texts = tf.where(is_date, texts, "1970-01-01")
    year, month, day = (
        tf.strings.to_number(tf.strings.substr(texts, start, length), tf.int32)
        for start, length in ((0, 4), (5, 2), (8, 2))
    )
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    is_month = (month >= 1) & (month <= 12)
    month = tf.where(is_month, month, 1)
    length = tf.gather(_LENGTHS, month - 1) + tf.cast(is_leap & (month == 2), tf.int32)
    before = year - 1
    number = 365 * before + before // 4 - before // 100 + before // 400
    starts = [sum(_LENGTHS[:months]) for months in range(12)]
    number += tf.gather(starts, month - 1) + tf.cast(is_leap & (month > 2), tf.int32) + day
    exists = is_date & is_month & (year > 0) & (day >= 1) & (day <= length)
    return tf.where(exists, tf.cast(number - _EPOCH, tf.float32), float("nan"))

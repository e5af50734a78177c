"""Checks the records of tables in memory, and brings their values to one form."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from cmclrec_tf.data import dates, text_forms, vocabulary
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import (
    COLD,
    DATE,
    HISTORY,
    MULTI,
    SEGMENT,
    TARGET,
    TIMES,
    USER_ID,
    WARM,
    Feature,
    Schema,
)

CheckedRecord: TypeAlias = dict[str, Any]
"""A record with its strings as bytes, and every field but the segment and the user id as a list."""

_LARGEST = float(np.finfo(np.float32).max)
# Differences of two such times are still 64-bit numbers.
_LATEST = 2**62


def checked_record(record: object, schema: Schema, where: str) -> CheckedRecord:
    """Checks a record; returns its text as bytes, and every feature as a list of values.

    Args:
        record: the record.
        schema: the user features.
        where: name of the record in errors.

    Raises:
        InputError: a wrong record; the message has `where`, the field, the rule and the fix.
    """
    known = {USER_ID, SEGMENT, HISTORY, TARGET, *TIMES, *(f.name for f in schema.inputs)}
    if not isinstance(record, Mapping):
        kind = type(record).__name__
        raise InputError(f"{where} (a {kind})", "it must be a mapping", "Pass a dict per user.")
    missing = {USER_ID, HISTORY, TARGET} - set(record)
    if missing or set(record) - known:
        raise InputError(
            f"{where} with the fields {sorted(map(str, record))}",
            f"the fields are {sorted(known)}",
            "Correct the names, or add the user feature.",
        )
    segment = record.get(SEGMENT, WARM)
    if segment not in (WARM, COLD):
        raise InputError(
            f"segment {segment!r} of {where}", f"it is {WARM} or {COLD}", "Correct it."
        )
    checked = {
        USER_ID: _id(record[USER_ID], f"{USER_ID} of {where}"),
        SEGMENT: segment.encode(),
        HISTORY: _items(record[HISTORY], f"{HISTORY} of {where}"),
        TARGET: _items(record[TARGET], f"{TARGET} of {where}"),
    }
    for field, items in TIMES.items():
        if record.get(field) is not None:
            checked[field] = _times(record[field], len(checked[items]), f"{field} of {where}")
    for feature in schema.inputs:
        place = f"user feature {feature.name!r} of {where}"
        values = _listed(record.get(feature.name))
        if feature.kind == DATE:
            checked[feature.name] = _days(_categories(feature, values, place), place)
        elif feature.is_numeric:
            checked[feature.name] = _numbers(feature, values, place)
        else:
            checked[feature.name] = _categories(feature, values, place)
    for feature in schema.features:
        if feature.of:
            parts = [checked[name] for name in feature.of]
            checked[feature.name] = [_crossed(parts)] if all(parts) else []
    return checked


def _id(value: object, where: str) -> bytes:
    """Returns the text of an id, which must not be missing."""
    text = text_forms.to_bytes(value, where)
    if not text:
        raise InputError(
            f"{where} ({value!r})", "it must not be missing or empty", "Add it, or leave it out."
        )
    return _one_line(text, where)


def _items(values: object, where: str) -> list[bytes]:
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping)):
        raise InputError(
            f"{where} (a {type(values).__name__})", "it must be a list of item ids", "Pass a list."
        )
    return [_id(value, where) for value in values]


def _times(values: Any, count: int, where: str) -> list[int]:
    """Returns the times of a field: a whole number for each of `count` items."""
    times = list(values) if isinstance(values, Iterable) else [values]
    numbers = [int(t) for t in times if isinstance(t, (int, np.integer)) and abs(int(t)) < _LATEST]
    if len(numbers) < len(times) or len(times) != count:
        raise InputError(
            f"{where} ({len(times)} values for {count} items)",
            f"it must be a whole number between -{_LATEST} and {_LATEST} for each item",
            "Correct it, or leave it out.",
        )
    return numbers


def _listed(value: object) -> list[object]:
    """Returns the values of a user feature as a list; a single value is a list of one."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return list(np.ravel(value)) if isinstance(value, np.ndarray) else list(value)
    return [value]


def _categories(feature: Feature, values: Iterable[object], where: str) -> list[bytes]:
    texts = [_one_line(text_forms.to_bytes(v, where).strip(), where) for v in values]
    cleaned = vocabulary.clean(feature, tf.constant(texts, tf.string)).numpy()
    present = [text for text in cleaned if text]
    if feature.kind != MULTI and len(present) > 1:
        raise InputError(
            f"{where} with {len(present)} strings", "it has one, or none", "Make it multi."
        )
    return present


def _crossed(parts: Iterable[list[bytes]]) -> bytes:
    crossed: bytes = vocabulary.cross([tf.constant(part[0]) for part in parts]).numpy()
    return crossed


def _days(texts: list[bytes], where: str) -> list[float]:
    """Returns the days of a date, or nothing if it is missing."""
    days = [dates.days_of(vocabulary.decode(text)) for text in texts]
    if None in days:
        raise InputError(
            f"{vocabulary.decode(texts[0])!r} in {where}",
            "it must be a date such as 2024-04-30, or that with a time of day in UTC",
            "Correct it, or pass None.",
        )
    return [float(day) for day in days if day is not None]


def _one_line(text: bytes, where: str) -> bytes:
    if not text_forms.is_one_line(text):
        raise InputError(
            f"{vocabulary.decode(text)!r} in {where}",
            "ids and categories have neither CR nor LF: a vocabulary file has one of them a line",
            "Replace the line break.",
        )
    return text


def _numbers(feature: Feature, values: list[object], where: str) -> list[float]:
    """Returns the numbers of a numeric feature: all of them, or none if one is missing."""
    parsed = [_number(value, where) for value in values]
    if len(parsed) not in (0, feature.numbers) and parsed != [None]:
        raise InputError(
            f"{where} with {len(parsed)} numbers",
            f"it has {feature.numbers}, or none",
            "Correct it.",
        )
    present = [number for number in parsed if number is not None]
    return present if len(present) == len(parsed) else []


def _number(value: Any, where: str) -> float | None:
    """Returns a number; None if it is missing, as blank text and the text "nan" are."""
    if text_forms.is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        # Python reads "1_000" as a number; no file format does.
        number = math.inf if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if abs(number) > _LARGEST:
        raise InputError(
            f"{value!r} in {where}", "it must be a finite 32-bit float", "Correct it, or pass None."
        )
    return None if math.isnan(number) else number

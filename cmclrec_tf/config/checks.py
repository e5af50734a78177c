"""Builds dataclasses from plain values, and holds the checks that the dataclasses run."""

import dataclasses
import datetime
import math
import numbers
import types
import typing
from typing import Any, TypeVar

import numpy as np

from cmclrec_tf.errors import InputError

T = TypeVar("T")

FIX = "Correct it in the config."

# TensorFlow computes with 32 bits. A derived seed, such as seed + 1, must fit NumPy's 32 bits too.
LARGEST_INT = 2**31 - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)
SMALLEST_FLOAT = float(np.finfo(np.float32).tiny)


def check(condition: bool, field: str, value: object, rule: str) -> None:
    """Raises an `InputError` about `field` unless `condition` holds."""
    if not condition:
        raise InputError(f"{field}={value!r}", rule, FIX)


def types_of(config: object) -> None:
    """Checks the type of every field of a frozen dataclass, and that 32 bits can hold numbers.

    Integers become floats where the field is a float, lists become tuples, and NumPy's numbers
    Python's.
    """
    hints = typing.get_type_hints(type(config))
    for name, hint in hints.items():
        value = _value(hint, getattr(config, name), name, FIX)
        object.__setattr__(config, name, value)


def positive(config: object, *fields: str) -> None:
    """Checks that each field is above 0, also as a 32-bit float."""
    for field in fields:
        value = getattr(config, field)
        check(value > 0, field, value, "it must be positive")
        check(value >= SMALLEST_FLOAT, field, value, "it must be positive in 32 bits")


def at_most(config: object, bound: int, *fields: str) -> None:
    """Checks that each field is `bound` or less: no machine has the memory for more."""
    for field in fields:
        value = getattr(config, field)
        check(value <= bound, field, value, f"it must be at most {bound}")


def not_negative(config: object, *fields: str) -> None:
    """Checks that each field is 0 or more."""
    for field in fields:
        value = getattr(config, field)
        check(value >= 0, field, value, "it must be 0 or more")


def share(config: object, *fields: str) -> None:
    """Checks that each field is in [0, 1), also as a 32-bit float."""
    for field in fields:
        value = getattr(config, field)
        check(value >= 0 and float(np.float32(value)) < 1, field, value, "it must be in [0, 1)")


def proportion(config: object, *fields: str) -> None:
    """Checks that each field is in [0, 1]."""
    for field in fields:
        value = getattr(config, field)
        check(0 <= value <= 1, field, value, "it must be in [0, 1]")


def one_of(config: object, field: str, choices: tuple[str, ...]) -> None:
    """Checks that the field is one of the choices."""
    value = getattr(config, field)
    check(value in choices, field, value, f"it must be one of {list(choices)}")


def build(cls: type[T], values: object, where: str, fix: str = FIX) -> T:
    """Builds a dataclass from the plain values that YAML and JSON hold.

    Fields may be strings, ints, floats, bools, dataclasses, `X | None` and tuples of these. A
    string may be empty only where the field's default is empty.

    Args:
        cls: the dataclass.
        values: a mapping of field names to values; nested for nested dataclasses.
        where: name of the mapping in error messages.
        fix: last sentence of error messages.

    Raises:
        InputError: an unknown or missing key, an empty string, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}={values!r}", "it must be a mapping", fix)
    # A type checker knows no type for "any dataclass".
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for key in values:
        if key not in fields:
            raise InputError(f"{where}.{key}", f"the keys of {where} are {list(fields)}", fix)
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in values:
            raise InputError(f"{where}.{key}", "this key is missing", fix)
        if values.get(key) == "" and field.default != "":
            raise InputError(f"{where}.{key}", "it must not be empty", fix)
    hints = typing.get_type_hints(cls)
    return cls(**{key: _value(hints[key], v, f"{where}.{key}", fix) for key, v in values.items()})


def _value(hint: Any, value: object, where: str, fix: str) -> object:
    """Returns `value` as the type that `hint` names, or raises an `InputError`."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        return build(typing.cast(type, hint), value, where, fix)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}={value!r}", "it must be a list", fix)
        (part, _) = typing.get_args(hint)
        return tuple(_value(part, v, f"{where}[{i}]", fix) for i, v in enumerate(value))
    if hint in (int, float) and not isinstance(value, (bool, np.bool_)):
        if hint is float and isinstance(value, numbers.Real):
            return _float(value, where, fix)
        if hint is int and isinstance(value, numbers.Integral):
            if abs(int(value)) > LARGEST_INT:
                rule = f"it must lie between -{LARGEST_INT} and {LARGEST_INT}"
                raise InputError(f"{where}={_short(value)}", rule, fix)
            return int(value)
    if hint is str and type(value) is datetime.date:
        return value.isoformat()  # YAML reads 2024-04-30 as a date
    if type(value) is not hint:
        quotes = "; in YAML, put it in quotes" if hint is str else ""
        rule = f"it must be of type {hint.__name__}{quotes}"
        raise InputError(f"{where}={_short(value)}", rule, fix)
    return value


def _float(value: numbers.Real, where: str, fix: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST_FLOAT:
        raise InputError(f"{where}={_short(value)}", "it must be a finite 32-bit number", fix)
    return number


def _short(value: object) -> str:
    """Returns a value for an error; Python refuses to print integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)

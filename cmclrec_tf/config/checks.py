"""Builds dataclasses from plain values, and holds the checks that the dataclasses run."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from cmclrec_tf.errors import InputError

T = TypeVar("T")

FIX = "Correct it in the config."


def check(condition: bool, field: str, value: object, rule: str) -> None:
    """Raises an `InputError` about `field` unless `condition` holds."""
    if not condition:
        raise InputError(f"{field}={value!r}", rule, FIX)


def positive(config: object, *fields: str) -> None:
    """Checks that each field is above 0."""
    for field in fields:
        value = getattr(config, field)
        check(value > 0, field, value, "it must be positive")


def not_negative(config: object, *fields: str) -> None:
    """Checks that each field is 0 or more."""
    for field in fields:
        value = getattr(config, field)
        check(value >= 0, field, value, "it must be 0 or more")


def share(config: object, *fields: str) -> None:
    """Checks that each field is in [0, 1)."""
    for field in fields:
        value = getattr(config, field)
        check(0 <= value < 1, field, value, "it must be in [0, 1)")


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
        return build(typing.cast(type, hint), value, where, fix)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}={value!r}", "it must be a list", fix)
        (part, _) = typing.get_args(hint)
        return tuple(_value(part, v, f"{where}[{i}]", fix) for i, v in enumerate(value))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{where}={value!r}", f"it must be of type {hint.__name__}", fix)
    return value

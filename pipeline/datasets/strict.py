"""Dataclasses from nested dicts, with every wrong key and type named."""

import dataclasses
import types
import typing

from cmclrec_tf.errors import InputError

_MEND = "Correct it in the dataset spec."


def build(kind, values, where):
    """Builds the dataclass `kind` from a mapping.

    Fields may be strings, ints, floats, bools, dataclasses, `X | None` and tuples of any of these.

    Args:
        kind: the dataclass.
        values: the mapping; nested for nested dataclasses.
        where: what the mapping is called in an error.

    Raises:
        InputError: an unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}={values!r}", "it must be a mapping", _MEND)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise InputError(f"{where}: {key!r}", f"its keys are {list(fields)}", _MEND)
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise InputError(f"{where}: {name!r}", "this key is missing", _MEND)
        if values.get(name) == "" and field.default != "":
            raise InputError(f"{where}: {name!r}", "it must not be empty", _MEND)
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, key) for key, value in values.items()})


def _value(hint, value, where):
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        if value is None:
            return None
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}={value!r}", "it must be a list", _MEND)
        (part, _) = typing.get_args(hint)
        return tuple(_value(part, v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{where}={value!r}", f"it must be of type {hint.__name__}", _MEND)
    return value

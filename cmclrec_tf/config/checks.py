"""What a config is checked by when it is built, and how it is built of plain values."""

import dataclasses

from cmclrec_tf.errors import InputError


def check(condition, field, value, rule) -> None:
    """Raises `InputError` unless the condition holds."""
    if not condition:
        raise InputError(f"{field}={value!r}", rule, "Correct it in the config.")


def positive(config, *fields) -> None:
    """Each of the fields is above 0."""
    for field in fields:
        check(getattr(config, field) > 0, field, getattr(config, field), "it must be positive")


def not_negative(config, *fields) -> None:
    """Each of the fields is 0 or more."""
    for field in fields:
        check(getattr(config, field) >= 0, field, getattr(config, field), "it must be 0 or more")


def share(config, *fields) -> None:
    """Each of the fields is in [0, 1)."""
    for field in fields:
        value = getattr(config, field)
        check(0 <= value < 1, field, value, "it must be in [0, 1)")


def proportion(config, *fields) -> None:
    """Each of the fields is in [0, 1]."""
    for field in fields:
        value = getattr(config, field)
        check(0 <= value <= 1, field, value, "it must be in [0, 1]")


def one_of(config, field, choices) -> None:
    """The field is one of the choices."""
    value = getattr(config, field)
    check(value in choices, field, value, f"it must be one of {list(choices)}")


def built(cls, values, where):
    """A dataclass of nested dicts; an unknown key or a wrong type is an `InputError`."""
    if not isinstance(values, dict):
        raise InputError(f"{where}={values!r}", "it must be a mapping", "Correct it in the config.")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(
                f"{where}.{key}", f"the keys of {where} are {list(fields)}", "Correct the key."
            )
    found = {}
    for key, value in values.items():
        default = fields[key].default
        nested = dataclasses.is_dataclass(default)
        if not nested:
            _typed(default, value, f"{where}.{key}")
        found[key] = built(type(default), value, key) if nested else value
    return cls(**found)


def _typed(default, value, where):
    kind = type(default)
    fits = (
        isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is float
        else isinstance(value, (list, tuple))
        if kind is tuple
        else type(value) is kind
    )
    if not fits:
        raise InputError(
            f"{where}={value!r}", f"it must be of type {kind.__name__}", "Correct it in the config."
        )

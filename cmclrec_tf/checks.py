"""Checks of a config's fields, by which it is refused when built."""

from cmclrec_tf.errors import InputError


def check(condition, field, value, rule):
    """Raises `InputError` unless the condition holds."""
    if not condition:
        raise InputError(f"{field}={value!r}", rule, "Correct it in the config.")


def positive(config, *fields):
    """Each of the fields is above 0."""
    for field in fields:
        check(getattr(config, field) > 0, field, getattr(config, field), "it must be positive")


def not_negative(config, *fields):
    """Each of the fields is 0 or more."""
    for field in fields:
        check(getattr(config, field) >= 0, field, getattr(config, field), "it must be 0 or more")


def share(config, *fields):
    """Each of the fields is in [0, 1)."""
    for field in fields:
        value = getattr(config, field)
        check(0 <= value < 1, field, value, "it must be in [0, 1)")


def one_of(config, field, choices):
    """The field is one of the choices."""
    value = getattr(config, field)
    check(value in choices, field, value, f"it must be one of {list(choices)}")

"""Histories and user features to the input arrays of a signature."""

import collections.abc
import functools
import math
import numbers

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, EXCLUDE, MULTI, NUMERIC

_FLOAT, _STRING = 1, 7


def kinds(signature):
    """{user feature: kind, or the length of a vector} as the `cold` signature's inputs tell it.

    Args:
        signature: its `SignatureDef`.

    Raises:
        InputError: an input of a dtype or rank that no kind has.
    """
    by_input = {(_STRING, 1): CATEGORICAL, (_STRING, 2): MULTI, (_FLOAT, 1): NUMERIC}
    found = {}
    for name in sorted(set(signature.inputs) - {EXCLUDE}):
        info = signature.inputs[name]
        sizes = [dim.size for dim in info.tensor_shape.dim]
        kind = by_input.get((info.dtype, len(sizes)))
        if info.dtype == _FLOAT and len(sizes) == 2 and sizes[1] > 1:
            kind = sizes[1]
        if kind is None:
            raise InputError(
                f"input {name!r} of the cold signature",
                "it must be string [B], string [B, ?], float [B] or float [B, n]",
                "Ask a model that cmclrec exported.",
            )
        found[name] = kind
    return found


def padded(lists, what, count=None):
    """Lists of item ids as an object array [B, W] of bytes, "" on the right, W at least 1.

    Args:
        lists: one sequence of strings a user; None stands for `count` empty ones.
        what: their name in messages.
        count: how many there must be, when it is known.

    Raises:
        InputError: another number of lists, or ids that are not strings.
    """
    return rectangle(item_lists(lists, what, count))


def item_lists(lists, what, count=None, first=0):
    """As `padded`, but a list of bytes a user; `first` is the number of the first user."""
    lists = [()] * count if lists is None else list(lists)
    if count is not None and len(lists) != count:
        raise InputError(
            f"{len(lists)} lists to {what}", f"there are {count} users", "Give one list a user."
        )
    rows = []
    for row, items in enumerate(lists, first):
        is_list = isinstance(items, collections.abc.Iterable)
        is_list = is_list and not isinstance(items, (str, bytes, collections.abc.Mapping))
        items = list(items) if is_list else []
        if not is_list or not all(isinstance(item, (str, bytes)) for item in items):
            raise InputError(
                f"{what} of user {row}", "it must be a list of strings", "Give item ids as strings."
            )
        rows.append([_bytes(item) for item in items])
    return rows


def cold_inputs(users, known):
    """User features as the input arrays of the `cold` signature, without `exclude`.

    Args:
        users: `{feature: value}` a user; what is absent, None or empty counts as missing.
        known: `{feature: kind}`, as `kinds` gives it.

    Returns:
        Per feature an object array [B] or [B, W] of bytes, or float32 [B] or [B, n].

    Raises:
        InputError: a feature that the model does not know, or a value of another kind. The value
            itself is never named.
    """
    return feature_arrays(read_features(users, known), known)


def read_features(users, known, first=0):
    """`{feature: value}` a user, every known feature in it; otherwise as `cold_inputs`.

    Returns:
        Bytes (categorical), a list of bytes (multi), a number or a list of n numbers; what is
        missing is b"", [], NaN or n NaN.
    """
    rows = []
    for row, user in enumerate(users, first):
        unknown = sorted(str(name) for name in set(user) - set(known))
        if unknown:
            raise InputError(
                f"user feature {unknown[0]!r} of user {row}",
                f"the model knows {sorted(known)}",
                "Correct the name or leave it out.",
            )
        rows.append(
            {name: _read(_reader(kind), user.get(name), name, row) for name, kind in known.items()}
        )
    return rows


def feature_arrays(rows, known):
    """What `read_features` returned, as the input arrays of the `cold` signature."""
    inputs = {}
    for name, kind in known.items():
        values = [row[name] for row in rows]
        if kind == MULTI:
            inputs[name] = rectangle(values)
        else:
            inputs[name] = np.array(values, object if kind == CATEGORICAL else np.float32)
    return inputs


def _reader(kind):
    vector = functools.partial(_vector, length=kind)
    return {CATEGORICAL: _category, MULTI: _categories, NUMERIC: _number}.get(kind, vector)


class _MisfitError(Exception):
    """A value of another kind; says the rule."""


def _read(read, value, name, row):
    try:
        return read(value)
    except _MisfitError as error:
        found = type(value).__name__
        raise InputError(
            f"user feature {name!r} of user {row} (a {found})", str(error), "Correct the value."
        ) from None


def _category(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b""
    if isinstance(value, (str, bytes)):
        return _bytes(value)
    # Ids are often numbers in the caller's tables; their tokens are strings.
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value)).encode()
    raise _MisfitError("it must be one string")


def _categories(value):
    if value is None:
        return []
    if isinstance(value, (str, bytes, numbers.Real)):
        value = [value]
    if not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        raise _MisfitError("it must be a list of strings")
    return [token for token in map(_category, value) if token]


def _number(value):
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _MisfitError("it must be a number") from None
    if abs(number) > float(np.finfo(np.float32).max):
        raise _MisfitError("it must be a number that a float32 holds")
    return number


def _vector(value, length):
    if value is None or (isinstance(value, str) and not value.strip()):
        return [math.nan] * length
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) not in (0, length):
        raise _MisfitError(f"it must be a list of {length} numbers")
    return [_number(number) for number in value] or [math.nan] * length


def _bytes(value):
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def rectangle(rows):
    """Lists of bytes as an object array [B, W], "" on the right, W at least 1."""
    array = np.full((len(rows), max([1, *map(len, rows)])), b"", object)
    for row, values in enumerate(rows):
        array[row, : len(values)] = values
    return array

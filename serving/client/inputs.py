"""Converts histories and user features to the input arrays of a signature."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.data import text_forms
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, EXCLUDE, MULTI, NUMERIC
from serving.client.protos import AnyMessage
from serving.tensor_protos import FLOAT, STRING

ItemId: TypeAlias = str | bytes | float
"""An item id; numbers become text as `cmclrec_tf.data.text_forms` says."""
ItemLists: TypeAlias = Iterable[Iterable[ItemId]]
Kinds: TypeAlias = dict[str, str | int]
"""`{user feature: kind}`; a vector's kind is its length."""
FeatureValue: TypeAlias = bytes | float | list[bytes] | list[float]
InputArray: TypeAlias = NDArray[np.object_] | NDArray[np.float32]
_LISTS = (list, tuple, set, frozenset, np.ndarray)


def feature_kinds(signature: AnyMessage) -> Kinds:
    """Returns the kinds of a model's user features, from the inputs of its `cold` signature.

    Args:
        signature: `SignatureDef` of the signature.

    Raises:
        InputError: no kind has the dtype and the rank of an input.
    """
    kind_of = {(STRING, 1): CATEGORICAL, (STRING, 2): MULTI, (FLOAT, 1): NUMERIC}
    kinds: Kinds = {}
    for name in sorted(set(signature.inputs) - {EXCLUDE}):
        info = signature.inputs[name]
        sizes = [dim.size for dim in info.tensor_shape.dim]
        kind: str | int | None = kind_of.get((info.dtype, len(sizes)))
        if info.dtype == FLOAT and len(sizes) == 2 and sizes[1] > 1:
            kind = sizes[1]
        if kind is None:
            raise InputError(
                f"input {name!r} of the cold signature",
                "it must be string [B], string [B, ?], float [B] or float [B, n]",
                "Use a model that cmclrec exported.",
            )
        kinds[name] = kind
    return kinds


def padded(lists: ItemLists | None, name: str, count: int | None = None) -> NDArray[np.object_]:
    """Returns lists of item ids as an array of bytes [B, N], padded with "" on the right.

    Args:
        lists: one list of item ids per user; None stands for `count` empty lists.
        name: name of the lists in error messages.
        count: number of lists that there must be, if known.

    Raises:
        InputError: the number of lists is another one, or an id has no text.
    """
    return rectangle(item_lists(lists, name, count))


def item_lists(lists: ItemLists | None, name: str, count: int | None = None) -> list[list[bytes]]:
    """Returns lists of item ids as bytes; see `padded` for the arguments and errors."""
    rows = [()] * (count or 0) if lists is None else list(lists)
    if count is not None and len(rows) != count:
        raise InputError(
            f"{len(rows)} lists to {name}", f"there are {count} users", "Pass one list per user."
        )
    return [item_list(items, name, number) for number, items in enumerate(rows)]


def item_list(items: Iterable[ItemId], name: str, number: int) -> list[bytes]:
    """Returns a list of item ids as bytes.

    Args:
        items: ids of one user.
        name: name of the list in error messages.
        number: number of the user in error messages.

    Raises:
        InputError: `items` is not a list, or an id has no text.
    """
    where = f"{name} of user {number}"
    is_list = isinstance(items, Iterable) and not isinstance(items, (str, bytes, Mapping))
    if not is_list or (isinstance(items, np.ndarray) and items.ndim == 0):
        raise _wrong_kind(items, where, "it must be a list of item ids")
    return [text_forms.to_bytes(item, where) for item in items]


def cold_inputs(users: Iterable[Mapping[str, Any]], kinds: Kinds) -> dict[str, InputArray]:
    """Returns user features as the input arrays of the `cold` signature, `exclude` left out.

    Args:
        users: `{feature: value}` for each user. A value that is absent, empty, None or NaN is
            missing.
        kinds: kinds of the model's user features, as `feature_kinds` returns them.

    Returns:
        For each feature an array of bytes [B] or [B, N], or float32 [B] or [B, n].

    Raises:
        InputError: the model has no such feature, or its value is of another kind. The message
            never quotes the value.
    """
    return feature_arrays([feature_values(user, kinds, i) for i, user in enumerate(users)], kinds)


def feature_values(
    features: Mapping[str, Any], kinds: Kinds, number: int
) -> dict[str, FeatureValue]:
    """Returns one user's features, converted: one value for each of the model's features.

    Args:
        features: the features as the caller passed them.
        kinds: as in `cold_inputs`.
        number: number of the user in error messages.

    Returns:
        Bytes (categorical), a list of bytes (multi), a number or a list of n numbers. The values
        b"", [], NaN and n times NaN stand for a missing feature.

    Raises:
        InputError: as `cold_inputs` does.
    """
    unknown = sorted(str(name) for name in set(features) - set(kinds))
    if unknown:
        raise InputError(
            f"user feature {unknown[0]!r} of user {number}",
            f"the model knows {sorted(kinds)}",
            "Correct the name or leave it out.",
        )
    values = {}
    for name, kind in kinds.items():
        where = f"user feature {name!r} of user {number}"
        value = features.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        values[name] = _converted(value, kind, where)
    return values


def feature_arrays(rows: Sequence[Mapping[str, Any]], kinds: Kinds) -> dict[str, InputArray]:
    """Returns the rows that `feature_values` returned as the input arrays of `cold`."""
    arrays: dict[str, InputArray] = {}
    for name, kind in kinds.items():
        values = [row[name] for row in rows]
        if kind == MULTI:
            arrays[name] = rectangle(values)
        else:
            arrays[name] = np.array(values, object if kind == CATEGORICAL else np.float32)
    return arrays


def is_present(value: FeatureValue) -> bool:
    """Whether a value that `feature_values` returned is not missing."""
    values = value if isinstance(value, list) else [value]
    return any(not math.isnan(v) if isinstance(v, float) else bool(v) for v in values)


def rectangle(rows: Sequence[Sequence[bytes]]) -> NDArray[np.object_]:
    """Returns lists of bytes as an array [B, N], padded with "" on the right; N is at least 1."""
    array = np.full((len(rows), max([1, *map(len, rows)])), b"", object)
    for row, values in enumerate(rows):
        array[row, : len(values)] = values
    return array


def _converted(value: Any, kind: str | int, where: str) -> FeatureValue:
    if isinstance(kind, int):
        return _vector(value, kind, where)
    if kind == NUMERIC:
        return _number(value, where)
    return _categories(value, where) if kind == MULTI else text_forms.to_bytes(value, where)


def _categories(value: Any, where: str) -> list[bytes]:
    values = value if isinstance(value, _LISTS) else [value]
    return [token for token in (text_forms.to_bytes(v, where) for v in values) if token]


def _number(value: Any, where: str) -> float:
    if _is_missing(value):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong_kind(value, where, "it must be a number") from None
    if abs(number) > float(np.finfo(np.float32).max):
        raise _wrong_kind(value, where, "it must be a number that a float32 can hold")
    return number


def _vector(value: Any, length: int, where: str) -> list[float]:
    if _is_missing(value):
        return [math.nan] * length
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) not in (0, length):
        raise _wrong_kind(value, where, f"it must be a list of {length} numbers")
    return [_number(number, where) for number in value] or [math.nan] * length


def _is_missing(value: Any) -> bool:
    return text_forms.is_missing(value) or (isinstance(value, str) and not value.strip())


def _wrong_kind(value: Any, where: str, rule: str) -> InputError:
    return InputError(f"{where} (a {type(value).__name__})", rule, "Correct the value.")

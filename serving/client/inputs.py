"""Converts histories and user features to the input arrays of a signature."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, EXCLUDE, MULTI, NUMERIC
from serving.tensor_protos import FLOAT, STRING

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

ItemLists: TypeAlias = Iterable[Iterable[str | bytes]]
Kinds: TypeAlias = dict[str, str | int]
"""`{user feature: kind}`; a vector's kind is its length."""
FeatureValue: TypeAlias = bytes | float | list[bytes] | list[float]
InputArray: TypeAlias = NDArray[np.object_] | NDArray[np.float32]


def feature_kinds(signature: "SignatureDef") -> Kinds:
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
        lists: one list of strings per user; None stands for `count` empty lists.
        name: name of the lists in error messages.
        count: number of lists that there must be, if known.

    Raises:
        InputError: the number of lists is another one, or ids are not strings.
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


def item_list(items: Iterable[str | bytes], name: str, number: int) -> list[bytes]:
    """Returns a list of item ids as bytes.

    Args:
        items: ids of one user.
        name: name of the list in error messages.
        number: number of the user in error messages.

    Raises:
        InputError: `items` is not a list of strings.
    """
    is_list = isinstance(items, Iterable) and not isinstance(items, (str, bytes, Mapping))
    ids = list(items) if is_list else []
    if not is_list or not all(isinstance(item, (str, bytes)) for item in ids):
        raise InputError(
            f"{name} of user {number}", "it must be a list of strings", "Pass item ids as strings."
        )
    return [_encoded(item) for item in ids]


def cold_inputs(users: Iterable[Mapping[str, Any]], kinds: Kinds) -> dict[str, InputArray]:
    """Returns user features as the input arrays of the `cold` signature, `exclude` left out.

    Args:
        users: `{feature: value}` for each user. A value that is absent, None or empty is missing.
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
        value = features.get(name)
        try:
            values[name] = _converted(value, kind)
        except _WrongKindError as error:
            raise InputError(
                f"user feature {name!r} of user {number} (a {type(value).__name__})",
                str(error),
                "Correct the value.",
            ) from None
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


class _WrongKindError(Exception):
    """A value is of another kind; the message is the rule that it breaks."""


def _converted(value: Any, kind: str | int) -> FeatureValue:
    if isinstance(kind, int):
        return _vector(value, kind)
    if kind == NUMERIC:
        return _number(value)
    return _categories(value) if kind == MULTI else _category(value)


def _category(value: Any) -> bytes:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b""
    if isinstance(value, (str, bytes)):
        return _encoded(value)
    # Ids are often integers in the caller's tables; the vocabulary holds strings.
    if not isinstance(value, bool) and isinstance(value, numbers.Integral):
        return str(int(value)).encode()
    raise _WrongKindError("it must be one string")


def _categories(value: Any) -> list[bytes]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, numbers.Real)):
        value = [value]
    if not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        raise _WrongKindError("it must be a list of strings")
    return [token for token in map(_category, value) if token]


def _number(value: Any) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _WrongKindError("it must be a number") from None
    if abs(number) > float(np.finfo(np.float32).max):
        raise _WrongKindError("it must be a number that a float32 can hold")
    return number


def _vector(value: Any, length: int) -> list[float]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return [math.nan] * length
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) not in (0, length):
        raise _WrongKindError(f"it must be a list of {length} numbers")
    return [_number(number) for number in value] or [math.nan] * length


def _encoded(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value

"""Converts Arrow arrays to the text that a delimited file would hold, see `text_forms`."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from cmclrec_tf.data import text_forms
from cmclrec_tf.errors import InputError

if TYPE_CHECKING:
    import pyarrow

Text: TypeAlias = bytes | tuple[bytes, ...]
"""The text of a value, or of each value of a list."""

UNITS = {"d": 1, "s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
"""How many of each unit a day has; dates are counted in days."""


def check(kind: "pyarrow.DataType", extension: str, lists: bool, where: str) -> None:
    """Checks that values of a type have a text.

    Args:
        kind: an Arrow type.
        extension: name of the extension type that the file gives to the column, or "".
        lists: whether the column may hold lists.
        where: the column and its file, for the error.

    Raises:
        InputError: a type whose values have no text.
    """
    from pyarrow import types

    reason, fix = "", "Write the column with another type, or name another one in the dataset spec."
    inner = kind.value_type if _is_list(kind) else kind
    if extension:
        reason = "is an extension type, whose values only its authors can read"
    elif _is_list(kind) and not lists:
        reason = "is a list"
        fix = "Give the column to a user feature of the kind multi, or to a vector of numbers."
    elif _is_list(kind) and (_is_time(inner) or inner.num_fields):
        reason = "is a list, but not one of numbers or text"
    elif inner.num_fields:
        reason = "is a record"
    elif types.is_fixed_size_binary(inner) or types.is_float16(inner):
        reason = "has a fixed number of bytes, which may be text, a UUID or a number of 16 bits"
    elif types.is_time(inner):
        reason = "is a time of day"
    if reason:
        may = "numbers, text, booleans, time stamps or dates" + (
            ", or lists of numbers or text" if lists else ""
        )
        shown = f"{extension} of {kind}" if extension else str(kind)
        raise InputError(
            f"{where} with the type {shown}", f"it must hold {may}, and this type {reason}", fix
        )


def common_unit(types: "Mapping[str, pyarrow.DataType]", column: str) -> str:
    """Returns the unit for a column in all files of a table: the finest one of any of them.

    Args:
        types: `{path: type of the column in this file}`.
        column: name of the column, for the error.

    Returns:
        One of `UNITS`, or "" if the column holds no time stamps and no dates.

    Raises:
        InputError: time stamps or dates in one file and other values in another one.
    """
    from pyarrow.types import is_null

    # A column that holds only nulls fits to any other.
    typed = {path: kind for path, kind in types.items() if not is_null(kind)}
    times = [path for path, kind in typed.items() if _is_time(kind)]
    others = [path for path, kind in typed.items() if not _is_time(kind)]
    if times and others:
        first, second = (f"{typed[path]} in {path}" for path in (times[0], others[0]))
        raise InputError(
            f"column {column!r} with the types {first} and {second}",
            "the files of one table must all hold time stamps or dates there, or none of them",
            "Write the files again with one type.",
        )
    return max((_unit(typed[path]) for path in times), key=UNITS.__getitem__, default="")


def texts(array: "pyarrow.Array", unit: str = "") -> Sequence[Text]:
    """Converts an array of a type that `check` accepts to texts.

    Numbers and booleans have the form of `text_forms`. Time stamps and dates become integers in
    `unit`; without a zone they count as UTC. Null and NaN become an empty text, and a missing list
    an empty tuple.

    Args:
        array: an array of any length.
        unit: one of `UNITS`; by default the array's own.
    """
    if not _is_list(array.type):
        return _scalar_texts(array, unit)
    from pyarrow import compute

    values = iter(_scalar_texts(array.flatten(), unit))
    lengths = compute.fill_null(compute.list_value_length(array), 0).to_pylist()
    return [tuple(itertools.islice(values, length)) for length in lengths]


def _scalar_texts(array, unit):
    import pyarrow
    from pyarrow import types

    if types.is_floating(array.type):
        return _float_texts(array)
    if types.is_decimal(array.type):
        return _decimal_texts(array)
    if _is_time(array.type):
        return _time_texts(array, unit or _unit(array.type))
    if not types.is_binary(array.type):
        array = array.cast(pyarrow.large_string())
    # Binary columns, like delimited text, may hold bytes that are not UTF-8.
    values = array.cast(pyarrow.large_binary()).to_pylist()
    return [text_forms.MISSING if value is None else value for value in values]


def _float_texts(array):
    import pyarrow
    from pyarrow import compute

    array = compute.if_else(compute.is_nan(array), pyarrow.scalar(None, array.type), array)
    try:
        # The usual case: pandas turns integers with missing values into floats.
        return _scalar_texts(array.cast(pyarrow.int64()), "")
    except pyarrow.ArrowInvalid:
        short = array.cast(pyarrow.string())
    # Arrow's text has the form of `text_forms` but for exponents and the sign of zero.
    odd = compute.or_(compute.match_substring(short, "e"), compute.equal(short, "-0"))
    places = compute.indices_nonzero(compute.fill_null(odd, False))
    result = _scalar_texts(short, "")
    # NumPy's scalars keep the width of the floats, on which the shortest text depends.
    for place, value in zip(places.to_pylist(), array.take(places).to_numpy(False), strict=True):
        result[place] = text_forms.to_bytes(value, "a column")
    return result


def _decimal_texts(array):
    import pyarrow

    try:
        return _scalar_texts(array.cast(pyarrow.int64()), "")
    except pyarrow.ArrowInvalid:
        return [text_forms.to_bytes(value, "a column") for value in array.to_pylist()]


def _time_texts(array, unit):
    import pyarrow
    from pyarrow import compute, types

    factor = UNITS[unit] // UNITS[_unit(array.type)]
    plain = array.cast(pyarrow.int32()) if types.is_date32(array.type) else array
    numbers = plain.cast(pyarrow.int64())
    try:
        return _scalar_texts(compute.multiply_checked(numbers, factor), "")
    except pyarrow.ArrowInvalid:
        # More than 64 bits: `times.parse` says so, with the row.
        exact = (None if value is None else value * factor for value in numbers.to_pylist())
        return [text_forms.to_bytes(value, "a column") for value in exact]


def _is_list(kind):
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_time(kind):
    from pyarrow import types

    return types.is_timestamp(kind) or types.is_date(kind)


def _unit(kind):
    from pyarrow import types

    if types.is_date32(kind):
        return "d"
    return "ms" if types.is_date64(kind) else kind.unit

"""Writes values as the text that vocabularies hold: one rule for tables, files and requests.

| value | text |
|---|---|
| `str` | as it is |
| `bytes` | as it is; bytes that are not UTF-8 are allowed |
| integer | decimal: 7 is "7" |
| whole float or decimal | the integer: 1.0 is "1", 12345678901.0 is "12345678901" |
| other float or decimal | the shortest decimal without exponent: 0.1, 0.0000001 |
| infinity | "inf", "-inf" |
| bool | "true", "false", as in Arrow and JSON |
| None, NaN, NaT, `pandas.NA` | missing: the empty text |
| anything else | an `InputError` |

NumPy's scalars have the form of Python's. The module needs neither TensorFlow nor pandas.
"""

import decimal
import math
import numbers
import sys

import numpy as np

from cmclrec_tf.errors import InputError

MISSING = b""
"""The text of a missing value."""
LINE_ENDS = (b"\n", b"\r")
"""Bytes that no vocabulary can hold: its file has one text a line, and readers drop the CR."""
# More digits than a float64 can have; a decimal like 1e999999999 would fill the memory.
_MOST_DIGITS = 400


def to_bytes(value: object, where: str) -> bytes:
    """Returns the text of a value, encoded as `vocabulary.encode` does.

    Args:
        value: any value; see the table above.
        where: place of the value, for the error, such as "history of user 3". The error has the
            type of the value, never the value: it may be personal.

    Returns:
        UTF-8, or the bytes that stand behind surrogate escapes; `MISSING` for a missing value.

    Raises:
        InputError: a value that has no text, or text that UTF-8 cannot hold.

    Example:
        >>> [to_bytes(value, "an example") for value in ("tea", 7, 1.0, 0.25, True, None)]
        [b'tea', b'7', b'1', b'0.25', b'true', b'']
        >>> to_bytes([7], "history of user 3")
        Traceback (most recent call last):
        ...
        cmclrec_tf.errors.InputError: history of user 3 (a list): it must be text or a number...
    """
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        try:
            return str.encode(value, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InputError(
                f"{where} (a str)", "UTF-8 must be able to hold it", "Remove the lone surrogate."
            ) from None
    if is_missing(value):
        return MISSING
    text = _number(value)
    if text is None:
        raise InputError(
            f"{where} (a {type(value).__name__})",
            f"it must be text or a number of at most {_MOST_DIGITS} digits, or missing",
            "Pass its text.",
        )
    return text.encode()


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, NaT or `pandas.NA`; an empty text is missing too."""
    if value is None:
        return True
    if isinstance(value, (str, bytes)):
        return not value
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    # Nothing is a value of pandas where pandas is not imported.
    pandas = sys.modules.get("pandas")
    return pandas is not None and (
        value is getattr(pandas, "NA", pandas) or value is getattr(pandas, "NaT", pandas)
    )


def is_one_line(text: bytes) -> bool:
    """Whether a vocabulary can hold a text: it has neither CR nor LF."""
    return not any(end in text for end in LINE_ENDS)


def _number(value: object) -> str | None:
    """Returns the text of a number or a bool; None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (numbers.Integral, np.integer)):
        whole = int(value)
        return str(whole) if abs(whole) < 10**_MOST_DIGITS else None
    if isinstance(value, (float, np.floating)):
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        if value == math.floor(value):
            return str(int(value))
        return np.format_float_positional(value, unique=True, trim="-")
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    return None


def _decimal(value: decimal.Decimal) -> str | None:
    if value.is_infinite():
        return "inf" if value > 0 else "-inf"
    if not value:
        return "0"
    _, digits, exponent = value.as_tuple()
    if len(digits) + abs(int(exponent)) > _MOST_DIGITS:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

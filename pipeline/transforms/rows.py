"""One row of a table by its columns, and the error when a row is malformed."""

import math

import numpy as np

from cmclrec_tf.errors import InputError

# Records hold numbers as float32.
_MOST = float(np.finfo(np.float32).max)


class RowParser:
    """Reads the columns of a table's rows.

    Args:
        layout: of `layouts.layout`.
        path: of the table's file, for errors.
    """

    def __init__(self, layout, path):
        self._layout, self._path = layout, str(path)

    def __call__(self, place, raw):
        """`{column: bytes}` of a raw row, stripped."""
        try:
            return self._layout.columns(raw)
        except ValueError as error:
            raise self.error(place, str(error)) from error

    def key(self, place, row, column):
        """A value that must not be empty, bytes."""
        if not row[column]:
            raise self.error(place, f"column {column!r} must not be empty")
        return row[column]

    def integer(self, place, row, column):
        """An int64. The value itself stays out of the error, as it may be personal."""
        number = self._number(place, row, column, int, "an integer")
        if not -(1 << 63) <= number < 1 << 63:
            raise self.error(place, f"column {column!r} must fit 64 bits")
        return number

    def number(self, place, row, column):
        """A float that is finite in 32 bits, or None when the value is empty or NaN."""
        if not row[column]:
            return None
        number = self._number(place, row, column, float, "a number")
        if abs(number) > _MOST:
            raise self.error(place, f"column {column!r} must be finite in 32 bits")
        return None if math.isnan(number) else number

    def error(self, place, rule):
        """`InputError` that names the file and the row."""
        row = self._layout.number(place)
        return InputError(f"row {row} of {self._path}", rule, "Correct or remove the row.")

    def _number(self, place, row, column, kind, rule):
        try:
            if b"_" in row[column]:
                raise ValueError("groups of digits, as in 1_000, are Python's alone")
            return kind(row[column])
        except ValueError as error:
            # RecBole and pandas write whole numbers as 12.0 where a column has holes.
            if kind is int and row[column].endswith(b".0") and row[column][:-2].isdigit():
                return int(row[column][:-2])
            raise self.error(place, f"column {column!r} must be {rule}") from error

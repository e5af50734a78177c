"""One row of a table by its columns, and the error when a row is malformed."""

import csv
import math

import numpy as np

from cmclrec_tf.errors import InputError
from pipeline.datasets.delimited import columns_of, fields, positions
from pipeline.transforms.read_rows import read_header, row_number

# Records hold numbers as float32.
_MOST = float(np.finfo(np.float32).max)


class RowParser:
    """Reads the columns of a table's rows.

    Args:
        table: `Interactions` or `Users` of a dataset spec.
        path: of its file, whose header is read here.

    Raises:
        InputError: a column that the header does not have.
    """

    def __init__(self, table, path):
        self._path = str(path)
        self._delimiter = table.delimiter
        header = read_header(path)
        self._positions = positions(header, table.delimiter, columns_of(table), path)
        self._width = max(self._positions.values()) + 1

    def __call__(self, offset, line):
        """`{column: bytes}` of a line, stripped."""
        try:
            found = fields(line, self._delimiter)
        except csv.Error as error:
            raise self.error(offset, f"it must be delimited text ({error})") from error
        if len(found) < self._width:
            raise self.error(
                offset, f"it must have {self._width} columns or more, and has {len(found)}"
            )
        return {column: found[at].strip() for column, at in self._positions.items()}

    def key(self, offset, row, column):
        """A value that must not be empty, bytes."""
        if not row[column]:
            raise self.error(offset, f"column {column!r} must not be empty")
        return row[column]

    def integer(self, offset, row, column):
        """An int64. The value itself stays out of the error, as it may be personal."""
        number = self._number(offset, row, column, int, "an integer")
        if not -(1 << 63) <= number < 1 << 63:
            raise self.error(offset, f"column {column!r} must fit 64 bits")
        return number

    def number(self, offset, row, column):
        """A float that is finite in 32 bits, or None when the value is empty or NaN."""
        if not row[column]:
            return None
        number = self._number(offset, row, column, float, "a number")
        if abs(number) > _MOST:
            raise self.error(offset, f"column {column!r} must be finite in 32 bits")
        return None if math.isnan(number) else number

    def error(self, offset, rule):
        """`InputError` that names the file and the row."""
        row = row_number(self._path, offset)
        return InputError(f"row {row} of {self._path}", rule, "Correct or remove the row.")

    def _number(self, offset, row, column, kind, rule):
        try:
            if b"_" in row[column]:
                raise ValueError("groups of digits, as in 1_000, are Python's alone")
            return kind(row[column])
        except ValueError as error:
            # RecBole and pandas write whole numbers as 12.0 where a column has holes.
            if kind is int and row[column].endswith(b".0") and row[column][:-2].isdigit():
                return int(row[column][:-2])
            raise self.error(offset, f"column {column!r} must be {rule}") from error

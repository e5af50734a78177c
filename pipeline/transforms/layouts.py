"""How a table lies in its file: two layouts behind one interface.

A layout reads rows as `(place, raw)`, where `place` orders the rows as the file does, and turns a
raw row into `{column: bytes}`.
"""

import csv

from pipeline.datasets.delimited import fields
from pipeline.datasets.formats import column_names, columns_of, is_parquet, opened, positions
from pipeline.transforms.files import open_bytes
from pipeline.transforms.read_parquet import ReadParquet
from pipeline.transforms.read_rows import ReadRows, row_number


def layout(table, path):
    """The layout of a table, by the ending of its file's name.

    Args:
        table: `Interactions` or `Users` of a dataset spec.
        path: of its file, whose columns are looked up here.

    Raises:
        InputError: a missing column, or a file that is not what its name says.
    """
    with opened(path, open_bytes) as file:
        found = column_names(file, table.delimiter, path)
    where = positions(found, columns_of(table), path)
    return ParquetLayout(path, where) if is_parquet(path) else TextLayout(path, where, table)


class TextLayout:
    """Delimited text with a header line; a place is the offset of a row's first byte."""

    def __init__(self, path, where, table):
        self._path, self._positions, self._delimiter = str(path), where, table.delimiter
        self._width = max(where.values()) + 1

    def read(self, span):
        """The `PTransform` that reads the rows; `span` is what one worker reads at a time."""
        return ReadRows(self._path, span)

    def columns(self, line):
        """`{column: bytes}` of a line, stripped.

        Raises:
            ValueError: a malformed line; says what it must be.
        """
        try:
            found = fields(line, self._delimiter)
        except csv.Error as error:
            raise ValueError(f"it must be delimited text ({error})") from error
        if len(found) < self._width:
            raise ValueError(f"it must have {self._width} columns or more, and has {len(found)}")
        return {column: found[at].strip() for column, at in self._positions.items()}

    def number(self, place):
        """The row's number for people: the header is row 1."""
        return row_number(self._path, place)


class ParquetLayout:
    """Parquet; a place is the number of rows before."""

    def __init__(self, path, where):
        self._path, self._columns = str(path), tuple(where)

    def read(self, span):
        """The `PTransform` that reads the rows; a worker reads a row group at a time."""
        return ReadParquet(self._path, self._columns)

    def columns(self, values):
        """`{column: bytes}` of a row, stripped."""
        return {name: value.strip() for name, value in zip(self._columns, values, strict=True)}

    def number(self, place):
        """The row's number for people: the first one is row 1."""
        return place + 1

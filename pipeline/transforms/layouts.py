"""How a table lies in its files, or in BigQuery: layouts behind one interface.

A layout reads rows as `(place, raw)`, where `place`, a pair of the file's number and a number in
it, orders the rows as the files do, and turns a raw row into `{column: bytes}`.
"""

import csv

from pipeline.datasets.delimited import fields
from pipeline.datasets.formats import inspect, is_parquet
from pipeline.storage.folders import BIGQUERY, is_bigquery
from pipeline.transforms import read_bigquery
from pipeline.transforms.read_parquet import ReadParquet
from pipeline.transforms.read_rows import ReadRows, Spans, row_number
from pipeline.transforms.row_values import MalformedError


def layout(table, folder):
    """The layout of a table, by the ending of its files' names.

    Args:
        table: `Interactions` or `Users` of a dataset spec.
        folder: of the raw files, whose columns are looked up here.

    Raises:
        InputError: as of `formats.inspect`.
    """
    found = inspect(table, folder)
    if is_bigquery(table.file):
        return BigQueryLayout(*found[0][:2])
    return ParquetLayout(found) if is_parquet(found[0][0]) else TextLayout(found, table.delimiter)


def is_text(table) -> bool:
    """Whether a table lies in files of delimited text."""
    return not is_bigquery(table.file) and not is_parquet(table.file)


class TextLayout:
    """Delimited text with header lines; a row's number is the offset of its first byte."""

    def __init__(self, found, delimiter):
        self._paths = [path for path, _, _ in found]
        self._positions = [where for _, _, where in found]
        self._delimiter = delimiter

    def read(self, span):
        """The `PTransform` that reads the rows; `span` is what one worker reads at a time."""
        return ReadRows(self._paths, span)

    def spans(self, span):
        """The `PTransform` that shares out parts of the files, for whoever reads them whole."""
        return Spans(self._paths, span)

    def positions(self, number):
        """`{column: number of the column}` of a file."""
        return self._positions[number]

    def columns(self, place, line):
        """`{column: bytes}` of a line, stripped.

        Raises:
            MalformedError: says what the line must be.
        """
        positions = self._positions[place[0]]
        try:
            found = fields(line, self._delimiter)
            return {column: found[at].strip() for column, at in positions.items()}
        except csv.Error as error:
            raise MalformedError(f"it must be delimited text ({error})") from error
        except IndexError as error:
            width = max(positions.values()) + 1
            raise MalformedError(
                f"it must have {width} columns or more, and has {len(found)}"
            ) from error

    def position(self, place) -> str:
        """Where a row is, at no cost: the byte that it begins at."""
        return f"byte {place[1]} of {self._paths[place[0]]}"

    def row(self, place) -> str:
        """Where a row is, for people; the header is row 1."""
        path = self._paths[place[0]]
        return f"row {row_number(path, place[1])} of {path}"

    def text(self, line):
        """A raw row as text."""
        return line.decode("utf-8", "backslashreplace")


class ParquetLayout:
    """Parquet; a row's number is that of the rows before."""

    def __init__(self, found):
        self._files = [
            (path, tuple(names[at] for at in where.values())) for path, names, where in found
        ]
        self._columns = tuple(found[0][2])

    def read(self, span):
        """The `PTransform` that reads the rows; a worker reads a row group at a time."""
        return ReadParquet(self._files)

    def columns(self, place, values):
        """`{column: bytes}` of a row, stripped."""
        return {name: value.strip() for name, value in zip(self._columns, values, strict=True)}

    def position(self, place) -> str:
        """Where a row is; the first one is row 1."""
        return f"row {place[1] + 1} of {self._files[place[0]][0]}"

    row = position

    def text(self, values):
        """A raw row as text: the values of the columns that are read."""
        return ",".join(value.decode("utf-8", "backslashreplace") for value in values)


class BigQueryLayout:
    """A table of BigQuery, whose rows have no order; a row's number is a hash of it."""

    def __init__(self, name, columns):
        self._name, self._columns = name, tuple(columns)

    def read(self, span):
        """The `PTransform` that reads the rows; BigQuery shares out the work."""
        table = self._name.removeprefix(BIGQUERY)
        return read_bigquery.ReadBigQuery(table, dict.fromkeys(self._columns))

    def columns(self, place, row):
        """`{column: bytes}` of a row, stripped.

        Raises:
            MalformedError: says what a value must be.
        """
        return {name: read_bigquery.text(row[name], name).strip() for name in self._columns}

    def position(self, place) -> str:
        """Which row it is, by its hash."""
        return f"hash {place[1]} of {self._name}"

    row = position

    def text(self, row):
        """A raw row as text."""
        return str(row)

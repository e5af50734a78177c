"""Reads the rows of a table from text files, Parquet files or BigQuery, behind one interface.

A layout reads rows as `(place, raw row)` and turns a raw row into `{column: bytes}`. A place is a
pair of numbers, the file's and the row's, and orders the rows as the files do.

Beam, which takes seconds to import, is only needed to read whole tables.
"""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cmclrec_tf.schema import DATE
from pipeline.datasets import parquet, text_rows
from pipeline.datasets.delimited import FormatError, fields
from pipeline.datasets.formats import TableFile, inspect
from pipeline.datasets.parquet_values import Text
from pipeline.datasets.table_specs import Interactions, Users
from pipeline.datasets.text_rows import RowShape
from pipeline.storage.files import open_bytes
from pipeline.storage.folders import BIGQUERY, AnyPath, is_bigquery
from pipeline.storage.text_files import row_number
from pipeline.transforms.elements import Place, Row
from pipeline.transforms.row_values import MalformedError

if TYPE_CHECKING:
    import apache_beam as beam

Raw = TypeVar("Raw")


class Layout(Protocol[Raw]):
    """The interface of the layouts below. `Raw` is the type of a raw row."""

    def read(self, span: int) -> "beam.PTransform":
        """Returns the transform that reads `(place, raw row)`, `span` bytes at a time."""

    def first_rows(self) -> Iterator[tuple[Place, Raw]]:
        """Yields the rows in the order of their places, without Beam; a reader stops early."""

    def columns(self, place: Place, raw: Raw) -> Row:
        """Returns the values of a raw row, stripped; raises MalformedError if it has none."""

    def position(self, place: Place) -> str:
        """Says where a row is without reading anything."""

    def row(self, place: Place) -> str:
        """Says where a row is for people; may read the file up to it."""

    def text(self, raw: Raw) -> str:
        """Returns a raw row as text."""


_FIRST_BYTES = 1 << 20


def layout_of(table: Interactions | Users, folder: AnyPath) -> Layout[Any]:
    """Returns the layout of a table, which its files decide.

    Args:
        table: a table of a dataset spec.
        folder: folder of the raw files; their columns are looked up at once.

    Raises:
        InputError: see `formats.inspect`.
    """
    files = inspect(table, folder)
    if is_bigquery(table.file):
        if isinstance(table, Interactions):
            formats = {table.time: table.time_format}
        else:
            formats = {c.column: c.date_format for c in table.columns if c.kind == DATE}
        return BigQueryLayout(files[0].path, files[0].names, formats)
    if not files[0].is_parquet:
        return TextLayout(files, table.delimiter)
    features = table.columns if isinstance(table, Users) else ()
    return ParquetLayout(files, {column.column: column.separator for column in features})


class TextLayout:
    """Delimited text with header lines; a row's number is the offset of its first byte.

    Args:
        files: the files of the table.
        delimiter: text between columns.
    """

    def __init__(self, files: list[TableFile], delimiter: str):
        self._paths = [file.path for file in files]
        self._positions = [file.positions for file in files]
        self._shapes = [RowShape(delimiter, len(file.names)) for file in files]

    def read(self, span: int) -> "beam.PTransform":
        """Returns the transform that reads `(place, row)`, `span` bytes at a time."""
        from pipeline.transforms.read_rows import ReadRows

        return ReadRows(zip(self._paths, self._shapes, strict=True), span)

    def spans(self, span: int) -> "beam.PTransform":
        """Returns the transform that divides the files into spans, without reading the rows."""
        from pipeline.transforms.read_rows import Spans

        return Spans(self._paths, span)

    def first_rows(self) -> Iterator[tuple[Place, bytes]]:
        """Yields the rows of all files, and reads a megabyte at a time."""
        for number, (path, shape) in enumerate(zip(self._paths, self._shapes, strict=True)):
            for first, block in text_rows.blocks(path, 0, math.inf, shape, _FIRST_BYTES):
                for offset, row in text_rows.rows(first, block, shape):
                    yield (number, offset), row

    def positions(self, number: int) -> dict[str, int]:
        """Returns `{column: its number}` of a file."""
        return self._positions[number]

    def shape(self, number: int) -> RowShape:
        """Returns the shape of the rows of a file."""
        return self._shapes[number]

    def columns(self, place: Place, raw: bytes) -> Row:
        """Splits a row into its columns and strips them.

        Raises:
            MalformedError: a row that cannot be split, or that has not as many columns as the
                header.
        """
        delimiter, width = self._shapes[place[0]]
        try:
            values = fields(raw, delimiter)
        except FormatError as error:
            raise MalformedError(str(error)) from error
        if len(values) != width:
            raise MalformedError(f"it must have {width} columns, and has {len(values)}")
        return {column: values[at].strip() for column, at in self._positions[place[0]].items()}

    def position(self, place: Place) -> str:
        """Names the byte at which the row begins."""
        return f"byte {place[1]} of {self._paths[place[0]]}"

    def row(self, place: Place) -> str:
        """Names the row by its number, which reads the file up to it; the header is row 1."""
        path = self._paths[place[0]]
        return f"row {row_number(path, place[1])} of {path}"

    def text(self, raw: bytes) -> str:
        """Returns a row as text."""
        return raw.decode("utf-8", "backslashreplace")


class ParquetLayout:
    """Parquet files; a row's number counts the rows before it.

    Attributes:
        units: `{column: unit of its time stamps or dates}`, see `parquet_values.common_unit`.

    Args:
        files: the files of the table.
        separators: `{column: text between the values of a list}`.
    """

    def __init__(self, files: list[TableFile], separators: Mapping[str, str]):
        self._columns = tuple(files[0].positions)
        self.units = dict(files[0].units)
        self._files = [(file.path, tuple(file.parquet_columns(self._columns))) for file in files]
        self._separators = {name: separator.encode() for name, separator in separators.items()}

    def read(self, span: int) -> "beam.PTransform":
        """Returns the transform that reads `(place, values)`, one row group at a time."""
        from pipeline.transforms.read_parquet import ReadParquet

        return ReadParquet(self._files)

    def first_rows(self) -> Iterator[tuple[Place, tuple[Text, ...]]]:
        """Yields the rows of all files."""
        for number, (path, columns) in enumerate(self._files):
            with open_bytes(path) as file:
                opened = parquet.open_parquet(file, path)
                for row, values in enumerate(parquet.rows(opened, columns, path)):
                    yield (number, row), values

    def columns(self, place: Place, raw: tuple[Text, ...]) -> Row:
        """Names the values of a row, strips them, and joins lists as delimited text does.

        Raises:
            MalformedError: a value of a list that holds the separator.
        """
        return {
            name: value.strip() if isinstance(value, bytes) else self._joined(name, value)
            for name, value in zip(self._columns, raw, strict=True)
        }

    def _joined(self, name, values):
        separator = self._separators[name]
        if any(separator in value for value in values):
            raise MalformedError(
                f"the values of the list in column {name!r} must not hold its separator "
                f"{separator.decode()!r}, see `separator` in the dataset spec"
            )
        return separator.join(values)

    def position(self, place: Place) -> str:
        """Names the row by its number; the first one is row 1."""
        return f"row {place[1] + 1} of {self._files[place[0]][0]}"

    row = position

    def text(self, raw: tuple[Text, ...]) -> str:
        """Joins the values of the columns that are read."""
        values = (value if isinstance(value, bytes) else b"|".join(value) for value in raw)
        return ",".join(value.decode("utf-8", "backslashreplace") for value in values)


class BigQueryLayout:
    """A BigQuery table. Its rows have no order, so a row's number is a hash of the row.

    Args:
        name: `bigquery://project.dataset.table`.
        columns: names of the columns to read.
        time_formats: `{column: time_format of its texts}`.
    """

    def __init__(
        self, name: str, columns: list[str], time_formats: Mapping[str, str] = MappingProxyType({})
    ):
        self._name, self._columns = name, tuple(columns)
        self._time_formats = dict(time_formats)

    def read(self, span: int) -> "beam.PTransform":
        """Returns the transform that reads `(place, {column: value})`."""
        from pipeline.transforms.read_bigquery import ReadBigQuery

        table = self._name.removeprefix(BIGQUERY)
        return ReadBigQuery(table, dict.fromkeys(self._columns))

    def first_rows(self) -> Iterator[tuple[Place, dict[str, object]]]:
        """Yields nothing: a table is read by an account that may only exist on the workers."""
        yield from ()

    def columns(self, place: Place, raw: dict[str, object]) -> Row:
        """Converts the values of a row to stripped text.

        Raises:
            MalformedError: see `read_bigquery.text`.
        """
        from pipeline.transforms.read_bigquery import text

        formats = self._time_formats
        return {
            name: text(raw[name], name, formats.get(name, "")).strip() for name in self._columns
        }

    def position(self, place: Place) -> str:
        """Names the row by its hash."""
        return f"hash {place[1]} of {self._name}"

    row = position

    def text(self, raw: dict[str, object]) -> str:
        """Returns a row as text."""
        return str(raw)

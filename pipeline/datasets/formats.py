"""Reads tables of several formats; each file decides, whatever the spec calls the table.

A file is Parquet if its name ends in `.parquet` or it begins as Parquet does. Everything else is
delimited text, compressed if the name ends in `.gz`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from cmclrec_tf.errors import InputError
from pipeline.datasets import delimited, parquet, parquet_values
from pipeline.datasets.table_specs import Interactions, Table, Users
from pipeline.datasets.time_formats import NUMBER
from pipeline.storage.files import list_files, open_bytes
from pipeline.storage.folders import AnyPath, is_bigquery
from pipeline.storage.text_files import open_table


class TableFile(NamedTuple):
    """A file of a table.

    Attributes:
        path: path of the file.
        names: names of all its columns.
        positions: `{column: its number}` of the columns that the spec names.
        is_parquet: whether the file is Parquet.
        units: `{column: unit}` of a Parquet table, equal for all its files, see
            `parquet_values.common_unit`.
    """

    path: str
    names: list[str]
    positions: dict[str, int]
    is_parquet: bool = False
    units: Mapping[str, str] = MappingProxyType({})

    def parquet_columns(self, columns: Iterable[str]) -> list[parquet.Column]:
        """Returns the columns of a Parquet file that the spec names `columns`."""
        return [
            parquet.Column(self.names[self.positions[column]], self.units.get(column, ""))
            for column in columns
        ]


def is_parquet(path: AnyPath) -> bool:
    """Returns whether a file is Parquet, by its name or else by its first bytes."""
    if str(path).endswith(".parquet"):
        return True
    with open_bytes(path) as file:
        return file.read(len(parquet.MAGIC)) == parquet.MAGIC


def is_text(table: Table, folder: AnyPath) -> bool:
    """Returns whether a table is stored as files of delimited text, by its first file.

    Raises:
        InputError: there is no file.
    """
    return not is_bigquery(table.file) and not is_parquet(list_files(folder, table.file)[0])


def column_names(file: BinaryIO, delimiter: str, path: AnyPath) -> list[str]:
    """Reads the names of the columns of delimited text.

    Args:
        file: file of `open_table`, at its beginning.
        delimiter: text between the columns.
        path: path of the file, for the error.

    Raises:
        InputError: the first line is empty or malformed, see `delimited.names`.
    """
    header = file.readline()
    if not header.strip():
        raise InputError(path, "its first line must name the columns", "Add a header line.")
    return delimited.names(header, delimiter, path)


def columns_of(table: Table) -> list[str]:
    """Returns the names of the columns that a table of a dataset spec needs."""
    keys = ("user", "item", "time", "id", "title")
    columns = [getattr(table, key) for key in keys if hasattr(table, key)]
    rules = [getattr(table, name, None) for name in ("keep", "test_period")]
    columns += [rule.column for rule in rules if rule]
    return [*columns, *(column.column for column in getattr(table, "columns", ()))]


def inspect(table: Table, folder: AnyPath) -> list[TableFile]:
    """Lists the files of a table and locates its columns in each.

    Args:
        table: a table of a dataset spec.
        folder: folder of the raw files.

    Returns:
        At least one file. A BigQuery table counts as one file; its columns are checked when it is
        read.

    Raises:
        InputError: no file, a file that is not of the format of its name, a missing column, or
            files of two formats.
    """
    if is_bigquery(table.file):
        columns = columns_of(table)
        return [TableFile(table.file, columns, {name: at for at, name in enumerate(columns)})]
    paths = list_files(folder, table.file)
    formats = {path: is_parquet(path) for path in paths}
    for path in paths:
        if formats[path] != formats[paths[0]]:
            raise InputError(
                f"{paths[0]} and {path}",
                "the files of one table must be all Parquet or all delimited text",
                "Correct the name or the pattern in the dataset spec.",
            )
    return _parquet_files(table, paths) if formats[paths[0]] else _text_files(table, paths)


def _text_files(table: Table, paths: list[str]) -> list[TableFile]:
    files = []
    for path in paths:
        with open_table(path) as file:
            names = column_names(file, table.delimiter, path)
        files.append(TableFile(path, names, positions(names, columns_of(table), path)))
    return files


def _parquet_files(table: Table, paths: list[str]) -> list[TableFile]:
    lists = _list_columns(table)
    files, types = [], {}
    for path in paths:
        with open_bytes(path) as file:
            opened = parquet.open_parquet(file, path)
            names = opened.schema_arrow.names
            located = positions(names, columns_of(table), path)
            columns = {column: names[number] for column, number in located.items()}
            types[path] = parquet.column_types(opened, columns, lists, path)
        files.append(TableFile(path, names, located, True))
    units = {
        column: parquet_values.common_unit({path: types[path][column] for path in paths}, column)
        for column in columns_of(table)
    }
    if isinstance(table, Interactions) and units[table.time]:
        _check_time_format(table.time, table.time_format, paths[0])
    for feature in getattr(table, "columns", ()):
        if units[feature.column]:
            _check_time_format(feature.column, feature.time_format, paths[0])
    return [file._replace(units=units) for file in files]


def _check_time_format(column: str, time_format: str, path: str) -> None:
    """Checks that the spec has no format for time stamps."""
    if time_format not in ("", NUMBER):
        raise InputError(
            f"time_format={time_format!r} of column {column!r} of {path}",
            "the column holds time stamps or dates, which are read as such",
            "Drop time_format from the dataset spec.",
        )


def _list_columns(table: Table) -> set[str]:
    """Returns the columns that only features with several values are read from."""
    if not isinstance(table, Users):
        return set()
    several = {True: set[str](), False: {table.id}}
    for column in table.columns:
        several[column.is_split].add(column.column)
    return several[True] - several[False]


def positions(names: list[str], columns: Iterable[str], path: AnyPath) -> dict[str, int]:
    """Locates columns in a file.

    If all names of the file share one prefix before their last ".", as in Hive's `table.column`,
    a column may be named without it.

    Args:
        names: names of all columns of the file.
        columns: names to locate.
        path: path of the file, for the error.

    Returns:
        `{column: its number}` of `columns`.

    Raises:
        InputError: a column that the file lacks or has twice.
    """
    prefixes = {name.rpartition(".")[0] for name in names}
    short_names = [name.rpartition(".")[2] for name in names] if len(prefixes) == 1 else names
    located = {}
    for column in columns:
        candidates = names if column in names else short_names
        if column not in candidates:
            raise InputError(
                f"column {column!r} of {path}",
                f"the file has the columns {names}",
                "Correct the column or the delimiter in the dataset spec, or the file.",
            )
        if candidates.count(column) > 1:
            raise InputError(
                f"column {column!r} of {path}",
                f"the file has {candidates.count(column)} columns of this name",
                "Rename them in the file.",
            )
        located[column] = candidates.index(column)
    return located

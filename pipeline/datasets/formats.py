"""A table's format, decided by the ending of its file's name.

`.parquet` is Parquet; anything else is delimited text, compressed if the name ends in `.gz`.
"""

import contextlib
import gzip
import zlib

from cmclrec_tf.errors import InputError
from pipeline.datasets import delimited, parquet
from pipeline.storage.files import listed, open_bytes
from pipeline.storage.folders import is_bigquery


def is_parquet(path):
    return str(path).endswith(".parquet")


def is_gzip(path):
    return str(path).endswith(".gz")


@contextlib.contextmanager
def opened(path):
    """A table's file for reading bytes, without its compression.

    Args:
        path: of the file, on any file system that `pipeline.storage.files` reads.

    Raises:
        InputError: a file that says it is compressed and is not, or is cut off or damaged.
    """
    with open_bytes(path) as file:
        if not is_gzip(path):
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                path,
                "a file whose name ends in .gz must be whole gzip, and this one is not, at or "
                f"before byte {file.tell()}",
                "Correct the file.",
            ) from error


def column_names(file, delimiter, path):
    """Names of a table's columns.

    Args:
        file: of `opened`, at its beginning.
        delimiter: of delimited text.
        path: of the file: its ending decides, and it is named in an error.

    Returns:
        list of str.

    Raises:
        InputError: no Parquet, or text whose first line is empty.
    """
    if is_parquet(path):
        return parquet.open_parquet(file, path).schema_arrow.names
    header = file.readline()
    if not header.strip():
        raise InputError(path, "its first line must name the columns", "Add a header line.")
    return delimited.names(header, delimiter)


def columns_of(table):
    """Names of the columns that a table of a dataset spec needs."""
    keys = ("user", "item", "time", "id", "title")
    named = [getattr(table, key) for key in keys if hasattr(table, key)]
    keep = getattr(table, "keep", None)
    filtered = [keep.column] if keep else []
    return [*named, *filtered, *(column.column for column in getattr(table, "features", ()))]


def inspect(table, folder):
    """The files of a table, and where its columns stand in each.

    Args:
        table: of a dataset spec.
        folder: of the raw files.

    Returns:
        `[(path, columns' names, {column: position})]`, at least one.

    Raises:
        InputError: no file, one of another format than its name says, a missing column, or files of
            two formats.
    """
    if is_bigquery(table.file):
        # Its columns are known once it is read.
        columns = columns_of(table)
        return [(table.file, columns, {name: at for at, name in enumerate(columns)})]
    found = []
    for path in listed(folder, table.file):
        with opened(path) as file:
            names = column_names(file, table.delimiter, path)
        found.append((path, names, positions(names, columns_of(table), path)))
    first, *others = (path for path, _, _ in found)
    for path in others:
        if is_parquet(path) != is_parquet(first):
            raise InputError(
                f"{first} and {path}",
                "the files of one table must be all Parquet or all delimited text",
                "Correct the name or the pattern in the dataset spec.",
            )
    return found


def positions(found, columns, path):
    """Where the named columns stand.

    Where every name found has one and the same prefix before its last ".", as Hive exports
    `table.column`, a column may be named without it.

    Args:
        found: names of a table's columns.
        columns: names that must be among them.
        path: of the file, for the error.

    Returns:
        `{column: position}` for `columns`.

    Raises:
        InputError: a column that is not there.
    """
    prefixes = {name.rpartition(".")[0] for name in found}
    short = [name.rpartition(".")[2] for name in found] if len(prefixes) == 1 else found
    where = {}
    for column in columns:
        names = found if column in found else short
        if column not in names:
            raise InputError(
                f"column {column!r} of {path}",
                f"the columns found are {found}",
                "Correct the column or the delimiter in the dataset spec, or the file.",
            )
        where[column] = names.index(column)
    return where

"""A table's format, decided by the ending of its file's name.

`.parquet` is Parquet; anything else is delimited text, compressed if the name ends in `.gz`.
"""

import contextlib
import gzip

from cmclrec_tf.errors import InputError
from pipeline.datasets import delimited, parquet


def is_parquet(path):
    return str(path).endswith(".parquet")


def is_gzip(path):
    return str(path).endswith(".gz")


@contextlib.contextmanager
def opened(path, open_bytes=None):
    """A table's file for reading bytes, without its compression.

    Args:
        path: of the file.
        open_bytes: opens it as it lies there; by default as a file of this machine.

    Raises:
        InputError: a file that says it is compressed and is not, or is cut off.
    """
    with open_bytes(path) if open_bytes else open(path, "rb") as file:
        if not is_gzip(path):
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain
        except (gzip.BadGzipFile, EOFError) as error:
            raise InputError(
                path, "a file whose name ends in .gz must be whole gzip", "Correct the file."
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
    return [*named, *(column.column for column in getattr(table, "features", ()))]


def positions(found, columns, path):
    """Where the named columns stand.

    Args:
        found: names of a table's columns.
        columns: names that must be among them.
        path: of the file, for the error.

    Returns:
        `{column: position}` for `columns`.

    Raises:
        InputError: a column that is not there.
    """
    for column in columns:
        if column not in found:
            raise InputError(
                f"column {column!r} of {path}",
                f"the columns found are {found}",
                "Correct the column or the delimiter in the dataset spec, or the file.",
            )
    return {column: found.index(column) for column in columns}

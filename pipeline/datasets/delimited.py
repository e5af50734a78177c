"""Delimited text: lines to fields, a header to the positions of its columns."""

import csv

from cmclrec_tf.errors import InputError

# RecBole's atomic files write a column's type behind its name.
_TYPES = ("token", "token_seq", "float", "float_seq")


def fields(line, delimiter):
    """The fields of one line.

    Args:
        line: bytes without the line's end.
        delimiter: with "," fields may be quoted by "; otherwise quotes are plain characters.

    Returns:
        list of bytes.
    """
    if delimiter != "," or b'"' not in line:
        return line.split(delimiter.encode())
    text = line.decode("utf-8", "surrogateescape")
    return [field.encode("utf-8", "surrogateescape") for field in next(csv.reader([text]))]


def positions(header, delimiter, columns, path):
    """Where the named columns stand.

    Args:
        header: the file's first line, bytes.
        delimiter: between columns.
        columns: names that must be there, without RecBole's `:type`.
        path: of the file, for the error.

    Returns:
        `{column: position}` for `columns`.

    Raises:
        InputError: a column that the header does not have.
    """
    line = header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    found = [_name(field.decode("utf-8", "replace")) for field in fields(line, delimiter)]
    for column in columns:
        if column not in found:
            raise InputError(
                f"column {column!r} of {path}",
                f"the columns found are {found}",
                "Correct the column or the delimiter in the dataset spec, or the file.",
            )
    return {column: found.index(column) for column in columns}


def columns_of(table):
    """Names of the columns that a table of a dataset spec needs."""
    keys = ("user", "item", "time", "id", "title")
    named = [getattr(table, key) for key in keys if hasattr(table, key)]
    return [*named, *(column.column for column in getattr(table, "features", ()))]


def _name(field):
    name, _, kind = field.strip().rpartition(":")
    return name if kind in _TYPES else field.strip()

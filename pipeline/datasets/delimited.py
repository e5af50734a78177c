"""Delimited text: lines to fields, a header to column names."""

import csv

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


def names(header, delimiter):
    """The columns' names, without RecBole's `:type`.

    Args:
        header: the file's first line, bytes.
        delimiter: between columns.

    Returns:
        list of str.
    """
    line = header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return [_name(field.decode("utf-8", "replace")) for field in fields(line, delimiter)]


def _name(field):
    name, _, kind = field.strip().rpartition(":")
    return name if kind in _TYPES else field.strip()

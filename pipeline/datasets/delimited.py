"""Splits lines of delimited text into fields, and header lines into column names."""

import csv

# RecBole's atomic files write the type of a column after its name.
_TYPES = ("token", "token_seq", "float", "float_seq")


def fields(line: bytes, delimiter: str) -> list[bytes]:
    """Splits a line into fields.

    Args:
        line: a line without its end.
        delimiter: text between fields. If it is ",", fields may be quoted by '"'; otherwise quotes
            are plain characters.
    """
    if delimiter != "," or b'"' not in line:
        return line.split(delimiter.encode())
    text = line.decode("utf-8", "surrogateescape")
    return [field.encode("utf-8", "surrogateescape") for field in next(csv.reader([text]))]


def names(header: bytes, delimiter: str) -> list[str]:
    """Returns the column names of a header line, without RecBole's `:type`.

    Args:
        header: first line of a file.
        delimiter: text between columns.
    """
    line = header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return [_name(field.decode("utf-8", "replace")) for field in fields(line, delimiter)]


def _name(field):
    name, _, kind = field.strip().rpartition(":")
    return name if kind in _TYPES else field.strip()

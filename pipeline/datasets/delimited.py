"""Splits rows of delimited text into fields, and header lines into column names."""

import csv
import functools
import io
import re
from collections.abc import Iterable, Iterator

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath

MOST_BYTES = 1 << 20
"""Number of bytes that a row with quotes has at most."""
# RecBole's atomic files write the type of a column after its name.
_TYPED = re.compile(r"(.*):(?:token|token_seq|float|float_seq)")
_MARK = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EXCEL = re.compile(rb'"?sep=(.)"?', re.IGNORECASE)
# Spreadsheets write one or the other, by the language of the computer.
_QUOTING = (",", ";")


class FormatError(ValueError):
    """A row that is not delimited text. Its message is the rule that the row breaks."""


def has_quotes(delimiter: str) -> bool:
    """Returns whether fields between this delimiter may be quoted by '"'."""
    return delimiter in _QUOTING


def fields(row: bytes, delimiter: str) -> list[bytes]:
    """Splits a row into fields.

    Args:
        row: a row without its line end. Quoted fields may hold line ends.
        delimiter: text between fields. If it is "," or ";", fields may be quoted by '"'; otherwise
            quotes are plain characters.

    Raises:
        FormatError: a quoted field that does not end with a quote, a line end outside of quotes, or
            a row with quotes that has more than `MOST_BYTES` bytes.
    """
    if b'"' not in row or not has_quotes(delimiter):
        if b"\r" in row or b"\n" in row:
            raise FormatError("it must not hold a line end outside of quotes")
        return row.split(delimiter.encode())
    if len(row) > MOST_BYTES:
        raise FormatError(f"a row with quotes must have at most {MOST_BYTES:,} bytes")
    try:
        (values,) = _reader([_text(row)], delimiter)
    except csv.Error as error:
        raise FormatError(
            f"its quotes must stand in pairs around whole fields, without line ends elsewhere, "
            f"within {MOST_BYTES:,} bytes ({error})"
        ) from error
    return [_bytes(value) for value in values]


def rows(block: bytes, delimiter: str, width: int) -> Iterator[bytes]:
    """Splits a block of whole rows into its rows, with their line ends; the sum is the block.

    A row is a line. But if a line leaves a quote open, and it has `width` fields together with the
    next lines up to the one that closes the quote, these lines are one row, of `MOST_BYTES` bytes
    at most. A quote that nothing closes within them leaves its line a row of its own, which
    `fields` refuses, and each of the next lines is a row.

    Args:
        block: bytes that begin where a row does.
        delimiter: text between fields.
        width: number of fields of a row.
    """
    if b'"' not in block or not has_quotes(delimiter):
        yield from io.BytesIO(block)
        return
    lines = io.BytesIO(block).readlines()
    is_whole = _whole_line(delimiter).fullmatch
    at = 0
    while at < len(lines):
        count = 1 if is_whole(lines[at]) else _lines_of_row(lines, at, delimiter, width)
        yield lines[at] if count == 1 else b"".join(lines[at : at + count])
        at += count


def names(header: bytes, delimiter: str, path: AnyPath) -> list[str]:
    """Returns the column names of a header line.

    If all names end in one of RecBole's types, as `user_id:token` does, the types are cut off.

    Args:
        header: first line of a file.
        delimiter: text between columns.
        path: path of the file, for errors.

    Raises:
        InputError: the line is not delimited text in UTF-8.
    """
    if header.startswith(_UTF16):
        raise InputError(
            path, "it must be UTF-8, and it begins as UTF-16 does", "Save it as UTF-8."
        )
    line = header.removeprefix(_MARK).rstrip(b"\r\n")
    if match := _EXCEL.fullmatch(line):
        raise InputError(
            f"{line.decode('utf-8', 'replace')!r} in {path}",
            "the first line must name the columns",
            f"Remove the line, and set delimiter: {match[1].decode('utf-8', 'replace')!r} in the "
            "dataset spec.",
        )
    try:
        columns = [value.decode("utf-8", "replace").strip() for value in fields(line, delimiter)]
    except FormatError as error:
        raise InputError(f"first line of {path}", str(error), "Correct the line.") from error
    typed = [_TYPED.fullmatch(column) for column in columns]
    return [match[1] for match in typed if match] if all(typed) else columns


@functools.cache
def _whole_line(delimiter: str) -> re.Pattern[bytes]:
    """Returns a pattern of lines that leave no quote open: a fast answer for nearly all of them."""
    plain, quoted = rf'[^"{delimiter}]*', r'"[^"]*"'
    field = rf"(?:{quoted}|{plain})"
    return re.compile(rf"{field}(?:{delimiter}{field})*\r?\n?".encode())


def _lines_of_row(lines: list[bytes], at: int, delimiter: str, width: int) -> int:
    """Returns the number of lines of the row that begins with line `at`."""
    reader = _reader(map(_text, _until_most(lines, at)), delimiter)
    try:
        values = next(reader)
    except csv.Error:
        # The line is malformed by itself, and the next ones may be rows.
        return 1
    return reader.line_num if len(values) == width else 1


def _reader(lines, delimiter):
    # The limit belongs to the process. By default it is an eighth of the bytes that a row may have.
    csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _until_most(lines: list[bytes], at: int) -> Iterable[bytes]:
    """Yields the lines from `at` on, of MOST_BYTES together."""
    size = 0
    for number in range(at, len(lines)):
        size += len(lines[number])
        if size > MOST_BYTES:
            return
        yield lines[number]


def _text(raw: bytes) -> str:
    """Returns bytes as text for `csv`, which from Python 3.11 on lets NUL pass."""
    if b"\0" in raw:
        raise csv.Error("line contains NUL")
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

"""Reads delimited text files as blocks of whole rows, and splits blocks into rows."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pipeline.datasets import delimited
from pipeline.storage.folders import AnyPath
from pipeline.storage.text_files import open_table

BLOCK = 16 << 20


class RowShape(NamedTuple):
    """What the rows of a file look like.

    Attributes:
        delimiter: text between columns.
        width: number of columns.
    """

    delimiter: str
    width: int


def blocks(
    path: AnyPath, start: int, end: float, shape: RowShape, size: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yields `(offset, whole rows)` of the rows whose first line begins within [start, end).

    Readers of neighbouring spans agree on the row that crosses the border between them: they
    decide from the same bytes around it. The file's first line, its header, is skipped.

    Args:
        path: path of the file.
        start: number of a byte.
        end: number of a byte, or infinity.
        shape: shape of the file's rows.
        size: number of bytes to read at a time, `BLOCK` by default.
    """
    size = size or BLOCK
    with open_table(path) as file:
        # Start one byte earlier, so that a line which begins exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        header = file.readline()
        offset += len(header)
        border = _Border(shape, header if start == 0 else _bytes_before(file, offset, shape))
        stream = _Lookahead(file)
        offset += len(border.rest_of_row(stream))
        while offset < end and (block := stream.read(int(min(end - offset, size)))):
            if not block.endswith(b"\n"):
                block += stream.readline()
            border.move(block)
            block += border.rest_of_row(stream)
            yield offset, block
            offset += len(block)


def rows(offset: int, block: bytes, shape: RowShape) -> Iterator[tuple[int, bytes]]:
    """Yields the rows of a block with their offsets, without line ends and blank lines."""
    for row in delimited.rows(block, *shape):
        stripped = row.rstrip(b"\r\n")
        if stripped:
            yield offset, stripped
        offset += len(row)


class _Border:
    """Finds the lines after a place that still belong to a row which begins before it.

    Args:
        shape: shape of the file's rows.
        before: the bytes before the place, as many as there are up to `MOST_BYTES`.
    """

    def __init__(self, shape: RowShape, before: bytes):
        self._shape, self._before = shape, before

    def move(self, block: bytes) -> None:
        """Moves the place to the end of `block`, which begins at it."""
        if delimited.has_quotes(self._shape.delimiter):
            most = delimited.MOST_BYTES
            self._before = (block if len(block) >= most else self._before + block)[-most:]

    def rest_of_row(self, stream: "_Lookahead") -> bytes:
        """Reads these lines, and moves the place behind them.

        Args:
            stream: the file from the place on.
        """
        # Its first line may be cut in two, or be the header.
        _, _, before = self._before.partition(b"\n")
        if b'"' not in before or not delimited.has_quotes(self._shape.delimiter):
            return b""
        after = stream.peek(delimited.MOST_BYTES)
        if len(after) == delimited.MOST_BYTES:
            after = after[: after.rfind(b"\n") + 1]
        position = 0
        for row in delimited.rows(before + after, *self._shape):
            position += len(row)
            if position >= len(before):
                break
        rest = stream.read(position - len(before))
        self.move(rest)
        return rest


class _Lookahead:
    """A file that can be read in advance, without a move back, which compressed files lack."""

    def __init__(self, file: BinaryIO):
        self._file, self._ahead = file, b""

    def peek(self, size: int) -> bytes:
        """Returns the next `size` bytes, which are still to be read."""
        self._ahead += self._file.read(max(size - len(self._ahead), 0))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        return ahead + self._file.read(size - len(ahead))

    def readline(self) -> bytes:
        end = self._ahead.find(b"\n") + 1
        if end:
            return self.read(end)
        ahead, self._ahead = self._ahead, b""
        return ahead + self._file.readline()


def _bytes_before(file, offset, shape):
    """Returns up to MOST_BYTES before an offset, and leaves the file there."""
    if not delimited.has_quotes(shape.delimiter):
        return b""
    start = max(offset - delimited.MOST_BYTES, 0)
    file.seek(start)
    return file.read(offset - start)

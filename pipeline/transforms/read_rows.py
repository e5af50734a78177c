"""Rows of a text file with their place in it, read in parallel spans."""

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

SPAN = 16 << 20


class ReadRows(beam.PTransform):
    """Reads a file's lines, all but the header, as `(offset, line)`.

    The offset of a line's first byte orders rows as the file does, however the work is shared out.
    A line is bytes without its end; blank lines are left out.

    Args:
        path: of the file, on any file system that Beam knows.
        span: bytes that one worker reads at a time.
    """

    def __init__(self, path, span=SPAN):
        super().__init__()
        self._path = str(path)
        self._span = span

    def expand(self, begin):
        return (
            begin
            | "Path" >> beam.Create([self._path])
            | "Spans" >> beam.FlatMap(_spans, self._span)
            | "ShareOut" >> beam.Reshuffle()
            | "Lines" >> beam.FlatMapTuple(_lines)
        )


def read_header(path):
    """The first line of a file, bytes."""
    with _open(path) as file:
        return file.readline()


def row_number(path, offset):
    """Number of the row that starts at `offset`, counting the header as row 1."""
    row, left = 1, offset
    with _open(path) as file:
        while left > 0 and (block := file.read(min(left, SPAN))):
            row += block.count(b"\n")
            left -= len(block)
    return row


def _open(path):
    return FileSystems.open(str(path), compression_type=CompressionTypes.UNCOMPRESSED)


def _spans(path, span):
    # Not `FileSystems.match`, which would take a bracket in the path for a pattern.
    size = FileSystems.get_filesystem(path).size(path)
    return [(path, start, min(start + span, size)) for start in range(0, size, span)]


def _lines(path, start, end):
    """Lines that start within [start, end)."""
    with _open(path) as file:
        # From one byte earlier, so that a line which starts exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        offset += len(file.readline())
        while offset < end and (line := file.readline()):
            stripped = line.rstrip(b"\r\n")
            if stripped:
                yield offset, stripped
            offset += len(line)

"""Rows of a text file with their place in it, read in parallel spans."""

import math

import apache_beam as beam

from pipeline.datasets.formats import is_gzip, opened
from pipeline.transforms.files import open_bytes, size

SPAN = 16 << 20


class ReadRows(beam.PTransform):
    """Reads a file's lines, all but the header, as `(offset, line)`.

    The offset of a line's first byte orders rows as the file does, however the work is shared out.
    A line is bytes without its end; blank lines are left out. A compressed file is read by one
    worker, and its offsets are those of the text.

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


def row_number(path, offset):
    """Number of the row that starts at `offset`, counting the header as row 1."""
    row, left = 1, offset
    with opened(path, open_bytes) as file:
        while left > 0 and (block := file.read(min(left, SPAN))):
            row += block.count(b"\n")
            left -= len(block)
    return row


def _spans(path, span):
    if is_gzip(path):
        # A compressed file has no place to begin at but its first byte.
        return [(path, 0, math.inf)]
    whole = size(path)
    return [(path, start, min(start + span, whole)) for start in range(0, whole, span)]


def _lines(path, start, end):
    """Lines that start within [start, end)."""
    with opened(path, open_bytes) as file:
        # From one byte earlier, so that a line which starts exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        offset += len(file.readline())
        while offset < end and (line := file.readline()):
            stripped = line.rstrip(b"\r\n")
            if stripped:
                yield offset, stripped
            offset += len(line)

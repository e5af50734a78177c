"""Rows of text files with their place in them, read in parallel spans."""

import math

import apache_beam as beam

from pipeline.datasets.formats import is_gzip, opened
from pipeline.files import size

SPAN = 16 << 20


class ReadRows(beam.PTransform):
    """Reads files' lines, all but the headers, as `((number of the file, offset), line)`.

    The offset of a line's first byte orders rows as the file does, however the work is shared out.
    A line is bytes without its end; blank lines are left out. A compressed file is read by one
    worker, and its offsets are those of the text.

    Args:
        paths: of the files, on any file system that Beam knows.
        span: bytes that one worker reads at a time.
    """

    def __init__(self, paths, span=SPAN):
        super().__init__()
        self._paths = [str(path) for path in paths]
        self._span = span

    def expand(self, begin):
        return (
            begin
            | "Paths" >> beam.Create(list(enumerate(self._paths)))
            | "Spans" >> beam.FlatMap(_spans, self._span)
            | "ShareOut" >> beam.Reshuffle()
            | "Lines" >> beam.FlatMapTuple(_lines)
        )


def row_number(path, offset):
    """Number of the row that starts at `offset`, counting the header as row 1."""
    row, left = 1, offset
    with opened(path) as file:
        while left > 0 and (block := file.read(min(left, SPAN))):
            row += block.count(b"\n")
            left -= len(block)
    return row


def _spans(numbered, span):
    number, path = numbered
    if is_gzip(path):
        # A compressed file has no place to begin at but its first byte.
        return [(number, path, 0, math.inf)]
    whole = size(path)
    return [(number, path, start, min(start + span, whole)) for start in range(0, whole, span)]


def _lines(number, path, start, end):
    """Lines that start within [start, end)."""
    with opened(path) as file:
        # From one byte earlier, so that a line which starts exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        offset += len(file.readline())
        while offset < end and (line := file.readline()):
            stripped = line.rstrip(b"\r\n")
            if stripped:
                yield (number, offset), stripped
            offset += len(line)

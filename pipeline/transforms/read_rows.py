"""Rows of text files with their place in them, read in parallel spans."""

import io
import math

import apache_beam as beam

from pipeline.datasets.formats import is_gzip, opened
from pipeline.storage.files import size

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
        self._paths, self._span = paths, span

    def expand(self, begin):
        spans = begin | Spans(self._paths, self._span)
        return spans | "Lines" >> beam.FlatMapTuple(_lines)


class Spans(beam.PTransform):
    """Parts of files that are read in parallel: `(number of the file, path, start, end)` in bytes.

    Args:
        paths, span: see `ReadRows`.
    """

    def __init__(self, paths, span=SPAN):
        super().__init__()
        self._paths, self._span = [str(path) for path in paths], span

    def expand(self, begin):
        return (
            begin
            | "Paths" >> beam.Create(list(enumerate(self._paths)))
            | "Spans" >> beam.FlatMap(_spans, self._span)
            | "ShareOut" >> beam.Reshuffle()
        )


def blocks(path, start, end):
    """The lines that start within [start, end), as `(offset, bytes of whole lines)`.

    The file's first line, its header, is left out.
    """
    with opened(path) as file:
        # From one byte earlier, so that a line which starts exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        offset += len(file.readline())
        while offset < end and (block := file.read(min(end - offset, SPAN))):
            if not block.endswith(b"\n"):
                block += file.readline()
            yield offset, block
            offset += len(block)


def lines(offset, block):
    """Offsets and lines of a block, without their ends and without blank ones."""
    for line in io.BytesIO(block):
        stripped = line.rstrip(b"\r\n")
        if stripped:
            yield offset, stripped
        offset += len(line)


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
    for first, block in blocks(path, start, end):
        for offset, line in lines(first, block):
            yield (number, offset), line

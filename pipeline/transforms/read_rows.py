"""Reads rows of text files with their places, in parallel spans."""

import io
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from pipeline.datasets.formats import is_gzip, open_table
from pipeline.storage.files import size
from pipeline.storage.folders import AnyPath

SPAN = 16 << 20


class ReadRows(beam.PTransform):
    """Reads all lines of files except the headers.

    Input: the beginning of a pipeline. Output elements: ((number of the file, offset), line). The
    offset of a line's first byte orders the rows as the file does, on any number of workers. A line
    is bytes without its end; blank lines are skipped. One worker reads a whole compressed file, and
    its offsets are those of the uncompressed text.

    Args:
        paths: paths of the files, on any file system that Beam knows.
        span: number of bytes that a worker reads at a time.
    """

    def __init__(self, paths: Iterable[AnyPath], span: int = SPAN):
        super().__init__()
        self._paths, self._span = paths, span

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        spans = begin | Spans(self._paths, self._span)
        return spans | "Lines" >> beam.FlatMapTuple(_lines)


class Spans(beam.PTransform):
    """Divides files into spans that are read in parallel.

    Input: the beginning of a pipeline. Output elements: (number of the file, path, start, end),
    where a span is the bytes [start, end).

    Args:
        paths: see `ReadRows`.
        span: see `ReadRows`.
    """

    def __init__(self, paths: Iterable[AnyPath], span: int = SPAN):
        super().__init__()
        self._paths, self._span = [str(path) for path in paths], span

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | "Paths" >> beam.Create(list(enumerate(self._paths)))
            | "Spans" >> beam.FlatMap(_spans, self._span)
            | "ShareOut" >> beam.Reshuffle()
        )


def blocks(path: AnyPath, start: int, end: float) -> Iterator[tuple[int, bytes]]:
    """Yields `(offset, whole lines)` of the lines that begin within the bytes [start, end).

    The file's first line, its header, is skipped.
    """
    with open_table(path) as file:
        # Start one byte earlier, so that a line which begins exactly at `start` is not skipped.
        offset = max(start - 1, 0)
        file.seek(offset)
        offset += len(file.readline())
        while offset < end and (block := file.read(int(min(end - offset, SPAN)))):
            if not block.endswith(b"\n"):
                block += file.readline()
            yield offset, block
            offset += len(block)


def lines(offset: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a block with their offsets, without line ends and blank lines."""
    for line in io.BytesIO(block):
        stripped = line.rstrip(b"\r\n")
        if stripped:
            yield offset, stripped
        offset += len(line)


def row_number(path: AnyPath, offset: int) -> int:
    """Returns the number of the row that begins at `offset`; the header is row 1."""
    row, remaining = 1, offset
    with open_table(path) as file:
        while remaining > 0 and (block := file.read(min(remaining, SPAN))):
            row += block.count(b"\n")
            remaining -= len(block)
    return row


def _spans(numbered, span):
    number, path = numbered
    if is_gzip(path):
        # A compressed file can only be read from its first byte.
        return [(number, path, 0, math.inf)]
    end = size(path)
    return [(number, path, start, min(start + span, end)) for start in range(0, end, span)]


def _lines(number, path, start, end):
    for first, block in blocks(path, start, end):
        for offset, line in lines(first, block):
            yield (number, offset), line

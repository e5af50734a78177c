"""Reads rows of text files with their places, in parallel spans."""

import math
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from pipeline.datasets.text_rows import BLOCK, RowShape, blocks, rows
from pipeline.storage.files import size
from pipeline.storage.folders import AnyPath
from pipeline.storage.text_files import is_gzip


class ReadRows(beam.PTransform):
    """Reads all rows of files except the headers.

    Input: the beginning of a pipeline. Output elements: ((number of the file, offset), row). The
    offset of a row's first byte orders the rows as the file does, on any number of workers. A row
    is bytes without its line end; blank lines are skipped. One worker reads a whole compressed
    file, and its offsets are those of the uncompressed text.

    Args:
        files: `[(path, shape of its rows)]`, on any file system that Beam knows.
        span: number of bytes that a worker reads at a time.
    """

    def __init__(self, files: Iterable[tuple[AnyPath, RowShape]], span: int = BLOCK):
        super().__init__()
        self._files, self._span = [(str(path), shape) for path, shape in files], span

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        spans = begin | Spans((path for path, _ in self._files), self._span)
        shapes = [shape for _, shape in self._files]
        return spans | "Rows" >> beam.FlatMap(_rows, shapes)


class Spans(beam.PTransform):
    """Divides files into spans that are read in parallel.

    Input: the beginning of a pipeline. Output elements: (number of the file, path, start, end),
    where a span is the bytes [start, end).

    Args:
        paths: paths of the files, on any file system that Beam knows.
        span: see `ReadRows`.
    """

    def __init__(self, paths: Iterable[AnyPath], span: int = BLOCK):
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


def _spans(numbered, span):
    number, path = numbered
    if is_gzip(path):
        # A compressed file can only be read from its first byte.
        return [(number, path, 0, math.inf)]
    end = size(path)
    return [(number, path, start, min(start + span, end)) for start in range(0, end, span)]


def _rows(span, shapes):
    number, path, start, end = span
    for first, block in blocks(path, start, end, shapes[number]):
        for offset, row in rows(first, block, shapes[number]):
            yield (number, offset), row

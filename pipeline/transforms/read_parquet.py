"""Reads rows of Parquet files with their places, row groups in parallel."""

from collections.abc import Iterable

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from pipeline.datasets import parquet
from pipeline.storage.files import open_bytes
from pipeline.storage.folders import AnyPath


class ReadParquet(beam.PTransform):
    """Reads all rows of Parquet files.

    Input: the beginning of a pipeline. Output elements: ((number of the file, number of the row),
    values). Both numbers count from 0 and order the rows as the files do, on any number of workers.
    Values are texts, see `pipeline.datasets.parquet.rows`.

    Args:
        files: `[(path, columns to read)]`, on any file system that Beam knows.
    """

    def __init__(self, files: Iterable[tuple[AnyPath, Iterable[parquet.Column]]]):
        super().__init__()
        self._files = [(str(path), tuple(columns)) for path, columns in files]

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | "Files" >> beam.Create(list(enumerate(self._files)))
            | "Groups" >> beam.FlatMapTuple(_groups)
            | "ShareOut" >> beam.Reshuffle()
            | "Rows" >> beam.FlatMapTuple(_rows)
        )


def _groups(number, file):
    """Yields each row group of a file with the number of its first row."""
    path, _ = file
    with open_bytes(path) as file_bytes:
        metadata = parquet.open_parquet(file_bytes, path).metadata
        first = 0
        for group in range(metadata.num_row_groups):
            yield number, file, group, first
            first += metadata.row_group(group).num_rows


def _rows(number, file, group, first):
    path, columns = file
    with open_bytes(path) as file_bytes:
        rows = parquet.rows(parquet.open_parquet(file_bytes, path), columns, path, [group])
        for row, values in enumerate(rows, first):
            yield (number, row), values

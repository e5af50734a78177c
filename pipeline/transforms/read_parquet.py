"""Rows of a Parquet file with their place in it, row groups in parallel."""

import apache_beam as beam

from pipeline.datasets import parquet
from pipeline.transforms.files import open_bytes


class ReadParquet(beam.PTransform):
    """Reads a file's rows as `(number from 0, values)`, some of its columns only.

    The number orders rows as the file does, however the work is shared out. Values are bytes, see
    `pipeline.datasets.parquet.rows`.

    Args:
        path: of the file, on any file system that Beam knows.
        columns: names of the columns to read.
    """

    def __init__(self, path, columns):
        super().__init__()
        self._path, self._columns = str(path), tuple(columns)

    def expand(self, begin):
        return (
            begin
            | "Path" >> beam.Create([self._path])
            | "Groups" >> beam.FlatMap(_groups)
            | "ShareOut" >> beam.Reshuffle()
            | "Rows" >> beam.FlatMap(_rows, self._columns)
        )


def _groups(path):
    """Each row group with the number of its first row."""
    with open_bytes(path) as file:
        metadata = parquet.open_parquet(file, path).metadata
        first = 0
        for group in range(metadata.num_row_groups):
            yield path, group, first
            first += metadata.row_group(group).num_rows


def _rows(numbered, columns):
    path, group, first = numbered
    with open_bytes(path) as file:
        found = parquet.rows(parquet.open_parquet(file, path), columns, path, [group])
        yield from enumerate(found, first)

"""Rows of Parquet files with their place in them, row groups in parallel."""

import apache_beam as beam

from pipeline.datasets import parquet
from pipeline.storage.files import open_bytes


class ReadParquet(beam.PTransform):
    """Reads files' rows as `((number of the file, number of the row), values)`, from 0.

    The numbers order rows as the files do, however the work is shared out. Values are bytes, see
    `pipeline.datasets.parquet.rows`.

    Args:
        files: `[(path, names of the columns to read)]`, on any file system that Beam knows.
    """

    def __init__(self, files):
        super().__init__()
        self._files = [(str(path), tuple(columns)) for path, columns in files]

    def expand(self, begin):
        return (
            begin
            | "Files" >> beam.Create(list(enumerate(self._files)))
            | "Groups" >> beam.FlatMapTuple(_groups)
            | "ShareOut" >> beam.Reshuffle()
            | "Rows" >> beam.FlatMapTuple(_rows)
        )


def _groups(number, file):
    """Each row group with the number of its first row."""
    path, _ = file
    with open_bytes(path) as opened:
        metadata = parquet.open_parquet(opened, path).metadata
        first = 0
        for group in range(metadata.num_row_groups):
            yield number, file, group, first
            first += metadata.row_group(group).num_rows


def _rows(number, file, group, first):
    path, columns = file
    with open_bytes(path) as opened:
        found = parquet.rows(parquet.open_parquet(opened, path), columns, path, [group])
        for row, values in enumerate(found, first):
            yield (number, row), values

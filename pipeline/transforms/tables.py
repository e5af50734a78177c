"""The two tables of a dataset as keyed collections."""

import os

import apache_beam as beam
from apache_beam.metrics import Metrics

from cmclrec_tf.schema import MULTI
from pipeline.transforms.counters import NAMESPACE
from pipeline.transforms.read_rows import SPAN, ReadRows
from pipeline.transforms.rows import RowParser


class _ReadTable(beam.PTransform):
    """Reads and parses one table of a dataset.

    Args:
        table: the dataset spec's `Interactions` or `Users`.
        folder: of the raw files.
        span: bytes that one worker reads at a time.

    Raises:
        InputError: a missing column; while running, a malformed row.
    """

    def __init__(self, table, folder, span=SPAN):
        super().__init__()
        self._table, self._path, self._span = table, os.path.join(folder, table.file), span

    def expand(self, begin):
        parse = self._parse(self._table, RowParser(self._table, self._path))
        return begin | ReadRows(self._path, self._span) | "Parse" >> beam.ParDo(parse)


class _ParseInteraction(beam.DoFn):
    def __init__(self, table, parser):
        super().__init__()
        self._table, self._parser = table, parser
        self._events = Metrics.counter(NAMESPACE, "events")

    def process(self, numbered):
        offset, line = numbered
        row = self._parser(offset, line)
        self._events.inc()
        user = self._parser.key(offset, row, self._table.user)
        item = self._parser.key(offset, row, self._table.item)
        yield user, (self._parser.integer(offset, row, self._table.time), offset, item)


class _ParseUser(beam.DoFn):
    def __init__(self, table, parser):
        super().__init__()
        self._table, self._parser = table, parser

    def process(self, numbered):
        offset, line = numbered
        row = self._parser(offset, line)
        values = {c.name: self._values(offset, row, c) for c in self._table.features}
        yield self._parser.key(offset, row, self._table.id), (offset, values)

    def _values(self, offset, row, column):
        if column.feature.is_numeric:
            number = self._parser.number(offset, row, column.column)
            return [] if number is None else [number]
        text = row[column.column]
        parts = text.split(column.separator.encode()) if column.kind == MULTI else [text]
        return [part.strip() for part in parts if part.strip()]


class ReadInteractions(_ReadTable):
    """Reads the log as `(user id, (time, offset, item id))`, ids as bytes."""

    _parse = _ParseInteraction


class ReadUsers(_ReadTable):
    """Reads the users' table as `(user id, (offset, {feature: values}))`.

    Values are a list of bytes, or of at most one float; it is empty when the value is missing.
    """

    _parse = _ParseUser

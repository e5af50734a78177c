"""The two tables of a dataset as keyed collections."""

import os

import apache_beam as beam
from apache_beam.metrics import Metrics

from cmclrec_tf.schema import MULTI
from pipeline.transforms.counters import NAMESPACE
from pipeline.transforms.layouts import layout
from pipeline.transforms.read_rows import SPAN
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
        found = layout(self._table, self._path)
        parse = self._parse(self._table, RowParser(found, self._path))
        return begin | "Read" >> found.read(self._span) | "Parse" >> beam.ParDo(parse)


class _ParseInteraction(beam.DoFn):
    def __init__(self, table, parser):
        super().__init__()
        self._table, self._parser = table, parser
        self._events = Metrics.counter(NAMESPACE, "events")

    def process(self, numbered):
        place, raw = numbered
        row = self._parser(place, raw)
        self._events.inc()
        user = self._parser.key(place, row, self._table.user)
        item = self._parser.key(place, row, self._table.item)
        yield user, (self._parser.integer(place, row, self._table.time), place, item)


class _ParseUser(beam.DoFn):
    def __init__(self, table, parser):
        super().__init__()
        self._table, self._parser = table, parser
        self._missing = {
            column.name: {b"", *(value.encode() for value in column.missing)}
            for column in table.features
        }

    def process(self, numbered):
        place, raw = numbered
        row = self._parser(place, raw)
        values = {c.name: self._values(place, row, c) for c in self._table.features}
        yield self._parser.key(place, row, self._table.id), (place, values)

    def _values(self, place, row, column):
        text, missing = row[column.column], self._missing[column.name]
        if text in missing:
            return []
        if column.feature.is_numeric:
            number = self._parser.number(place, row, column.column)
            return [] if number is None else [number]
        parts = text.split(column.separator.encode()) if column.kind == MULTI else [text]
        return [part.strip() for part in parts if part.strip() not in missing]


class ReadInteractions(_ReadTable):
    """Reads the log as `(user id, (time, place, item id))`, ids as bytes."""

    _parse = _ParseInteraction


class ReadUsers(_ReadTable):
    """Reads the users' table as `(user id, (place, {feature: values}))`.

    Values are a list of bytes, or of at most one float; it is empty when the value is missing.
    """

    _parse = _ParseUser

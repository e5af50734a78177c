"""The two tables of a dataset as keyed collections."""

import json

import apache_beam as beam
from apache_beam.metrics import Metrics

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import MULTI
from pipeline.transforms import counters, row_values
from pipeline.transforms.layouts import layout
from pipeline.transforms.read_rows import SPAN

REJECTS = "rejects"
_TABLE = "table"


class ReadTable(beam.PTransform):
    """Reads and parses one table of a dataset, to `(rows, rejects)`.

    A reject is a malformed row as a line of JSON: `table`, `place`, `rule` that it breaks, `row`.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.
        span: bytes that one worker reads at a time.

    Raises:
        InputError: as of `formats.inspect`; while running, a malformed row where none is allowed.
    """

    def __init__(self, spec, folder, span=SPAN):
        super().__init__()
        self._spec, self._table = spec, getattr(spec, self._name)
        self._folder, self._span = folder, span

    def expand(self, begin):
        found = layout(self._table, self._folder)
        return self._parsed(begin | "Read" >> found.read(self._span), self._parse, found)

    def _parsed(self, read, parse, found):
        """(rows, rejects) of what is read, by the `Parse` class of this table."""
        parse = parse(self._name, self._table, found, stop=not self._spec.max_rejects)
        parsed = read | "Parse" >> beam.ParDo(parse).with_outputs(REJECTS, main=_TABLE)
        return parsed[_TABLE], parsed[REJECTS]


class Parse(beam.DoFn):
    """Parses rows; `stop` at a malformed one, or give it out under `REJECTS`."""

    def __init__(self, name, table, layout_, stop):
        super().__init__()
        self._name, self._table, self._layout, self._stop = name, table, layout_, stop
        self._rejected = _counter(counters.REJECTED)

    def process(self, numbered):
        place, raw = numbered
        try:
            yield from self._parsed(place, self._layout.columns(place, raw))
        except row_values.MalformedError as error:
            if self._stop:
                # The row's number takes a look at all rows before; a reject does without.
                where = self._layout.row(place)
                raise InputError(where, str(error), "Correct or remove the row.") from error
            self._rejected.inc()
            reject = {
                "table": self._name,
                "place": self._layout.position(place),
                "rule": str(error),
                "row": self._layout.text(raw),
            }
            yield beam.pvalue.TaggedOutput(REJECTS, json.dumps(reject))


class ParseInteraction(Parse):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._kept = _keep(self._table.keep)
        self._events = _counter(counters.EVENTS)
        self._left_out = _counter(counters.NOT_KEPT)
        self._without_time = _counter(counters.WITHOUT_TIME)

    def _parsed(self, place, row):
        table = self._table
        user, item = row_values.key(row, table.user), row_values.key(row, table.item)
        if not self._kept(row):
            self._left_out.inc()
            return []
        if table.drop_without_time and row_values.is_missing(row, table.time):
            self._without_time.inc()
            return []
        time = row_values.time(row, table.time, table.time_decimals)
        self._events.inc()
        return [(user, (time, place, item))]


class _ParseUser(Parse):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._missing = {
            column.name: {b"", *(value.encode() for value in column.missing)}
            for column in self._table.features
        }

    def _parsed(self, place, row):
        values = {column.name: self._values(row, column) for column in self._table.features}
        return [(row_values.key(row, self._table.id), (place, values))]

    def _values(self, row, column):
        text, missing = row[column.column], self._missing[column.name]
        if text in missing:
            return []
        if column.feature.is_numeric:
            separator = column.separator.encode() if column.numbers > 1 else None
            return row_values.numbers(row, column.column, separator, column.numbers)
        parts = text.split(column.separator.encode()) if column.kind == MULTI else [text]
        return [part.strip() for part in parts if part.strip() not in missing]


class ReadInteractions(ReadTable):
    """Reads the log as `(user id, (time, place, item id))`, ids as bytes."""

    _name, _parse = "interactions", ParseInteraction


class ReadUsers(ReadTable):
    """Reads the users' table as `(user id, (place, {feature: values}))`.

    Values are a list of bytes or of floats; it is empty when the value is missing.
    """

    _name, _parse = "users", _ParseUser


def _keep(keep):
    """Whether a row is an event, by `Keep`."""
    if keep is None:
        return lambda row: True
    if keep.one_of:
        values = {value.encode() for value in keep.one_of}
        return lambda row: row[keep.column] in values

    def enough(row):
        number = row_values.number(row, keep.column)
        return number is not None and number >= keep.at_least

    return enough


def _counter(name):
    return Metrics.counter(counters.NAMESPACE, name)

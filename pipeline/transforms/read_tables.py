"""Reads and parses the two tables of a dataset."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import MULTI
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Interactions, Keep, Users
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters, row_values
from pipeline.transforms.elements import Place, Row
from pipeline.transforms.layouts import Layout, layout_of
from pipeline.transforms.read_rows import SPAN

REJECTS = "rejects"
_TABLE = "table"


class ReadTable(beam.PTransform):
    """Reads and parses one table of a dataset.

    Input: the beginning of a pipeline. Output: two collections, the parsed rows and the rejects. A
    reject is a malformed row as a line of JSON with `table`, `place`, the `rule` that it breaks,
    and the `row` itself.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.
        span: number of bytes that a worker reads at a time.

    Raises:
        InputError: see `formats.inspect`; while running, a malformed row where none is allowed.
    """

    _name: str
    _parse: "type[Parse]"

    def __init__(self, spec: DatasetSpec, folder: AnyPath, span: int = SPAN):
        super().__init__()
        self._spec, self._table = spec, getattr(spec, self._name)
        self._folder, self._span = folder, span

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> tuple[beam.PCollection, beam.PCollection]:
        layout = layout_of(self._table, self._folder)
        return self._parse_rows(begin | "Read" >> layout.read(self._span), self._parse, layout)

    def _parse_rows(self, raw_rows, parser, layout):
        """Applies the parser of this table; returns (rows, rejects)."""
        parse = parser(self._name, self._table, layout, stop=not self._spec.max_rejects)
        parsed = raw_rows | "Parse" >> beam.ParDo(parse).with_outputs(REJECTS, main=_TABLE)
        return parsed[_TABLE], parsed[REJECTS]


class Parse(beam.DoFn):
    """Parses the rows of a table.

    Input elements: (place, raw row). Output elements: see the subclasses; malformed rows are in the
    output `REJECTS`.

    Args:
        name: name of the table, as in the spec.
        table: the table of the spec.
        layout: layout that splits a raw row into columns.
        stop: whether the first malformed row is an error.
    """

    def __init__(self, name: str, table: Interactions | Users, layout: Layout[Any], stop: bool):
        super().__init__()
        self._name, self._table, self._layout, self._stop = name, table, layout, stop
        self._rejected = _counter(counters.REJECTED)

    @no_annotations
    def process(self, numbered: tuple[Place, Any]) -> Iterator[Any]:
        place, raw = numbered
        try:
            yield from self._parsed(place, self._layout.columns(place, raw))
        except row_values.MalformedError as error:
            if self._stop:
                # The row's number is known only after a look at all rows before it, which is fine
                # for one error and too slow for each reject.
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

    def _parsed(self, place: Place, row: Row) -> list[Any]:
        """Returns the elements of a row; raises MalformedError."""
        raise NotImplementedError


class ParseInteraction(Parse):
    """Parses rows of the log to (user id, (time, place, item id)); skips rows without an event."""

    _table: Interactions

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._is_event = _event_filter(self._table.keep)
        self._events = _counter(counters.EVENTS)
        self._not_kept = _counter(counters.NOT_KEPT)
        self._without_time = _counter(counters.WITHOUT_TIME)

    def _parsed(self, place, row):
        table = self._table
        user, item = row_values.key(row, table.user), row_values.key(row, table.item)
        if not self._is_event(row):
            self._not_kept.inc()
            return []
        if table.drop_without_time and row_values.is_missing(row, table.time):
            self._without_time.inc()
            return []
        time = row_values.time(row, table.time, table.time_decimals)
        self._events.inc()
        return [(user, (time, place, item))]


class _ParseUser(Parse):
    """Parses rows of the users' table to (user id, (place, {feature: values}))."""

    _table: Users

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
    """Reads the log.

    Output elements: (user id, (time, place, item id)), ids as bytes.
    """

    _name, _parse = "interactions", ParseInteraction


class ReadUsers(ReadTable):
    """Reads the users' table.

    Output elements: (user id, (place, {feature: values})). Values are a list of bytes or of floats,
    empty when the value is missing.
    """

    _name, _parse = "users", _ParseUser


def _event_filter(keep: Keep | None) -> Callable[[Row], bool]:
    """Returns the function that decides whether a row is an event."""
    if keep is None:
        return lambda row: True
    column, least = keep.column, keep.at_least
    if least is None:
        values = {value.encode() for value in keep.one_of}
        return lambda row: row[column] in values

    def is_enough(row):
        number = row_values.number(row, column)
        return number is not None and number >= least

    return is_enough


def _counter(name):
    return Metrics.counter(counters.NAMESPACE, name)

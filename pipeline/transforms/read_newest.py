"""Reads the newest events of every user from a text log, a block of lines at a time."""

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.typehints.decorators import no_annotations

from pipeline.datasets.formats import inspect
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Interactions
from pipeline.datasets.text_rows import BLOCK, blocks, rows
from pipeline.datasets.time_formats import ISO8601, NUMBER
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters, plain_lines, row_values, times
from pipeline.transforms.elements import NewestOfPart
from pipeline.transforms.held_events import HeldEvents
from pipeline.transforms.layouts import TextLayout
from pipeline.transforms.newest import MergeNewest, NewestEvents
from pipeline.transforms.read_tables import Parse, ReadTable
from pipeline.transforms.row_parsers import InteractionParser


class ReadNewest(ReadTable):
    """Reads a log of delimited text, cut to the newest events of every user.

    Input: the beginning of a pipeline. Output: two collections, with elements (user id, (number of
    events, [(time, item id)])), oldest first, and rejects as in `ReadTable`.

    The result equals that of `ReadInteractions` and `NewestEvents`, but a row never becomes an
    element, which is faster. Blocks of plain lines are parsed column by column, and cut to the
    newest events over many blocks. Other blocks are parsed row by row, and each is cut.

    Args:
        spec: see `ReadTable`.
        folder: see `ReadTable`.
        keep: number of newest events that are kept.
        span: see `ReadTable`.
    """

    _name = "interactions"
    _table: Interactions

    def __init__(self, spec: DatasetSpec, folder: AnyPath, keep: int, span: int = BLOCK):
        super().__init__(spec, folder, span)
        self._keep = keep

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> tuple[beam.PCollection, beam.PCollection]:
        layout = TextLayout(inspect(self._table, self._folder), self._table.delimiter)
        parts, rejects = self._parse_rows(
            begin | "Read" >> layout.spans(self._span),
            lambda *args, **kwargs: _NewestOfSpan(self._keep, *args, **kwargs),
            layout,
        )
        return parts | "Newest" >> beam.CombinePerKey(MergeNewest(self._keep)), rejects


class _NewestOfSpan(Parse):
    """Parses spans of a text file to (user id, accumulator of `NewestEvents`)."""

    _layout: TextLayout
    _parser: InteractionParser

    def __init__(self, keep, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._newest, self._keep = NewestEvents(keep), keep

    def start_bundle(self):
        self._held = HeldEvents(self._keep)

    def process(self, span):
        number, path, start, end = span
        for offset, block in blocks(path, start, end, self._layout.shape(number)):
            events = self._parse_columns(number, offset, block)
            if events is None:
                yield from self._parse_rows(number, offset, block)
            else:
                users, items, times, offsets = events
                yield from self._held.add(users, items, times, number, offsets)

    def finish_bundle(self):
        yield from map(GlobalWindows.windowed_value, self._held.take_all())

    def _parse_rows(self, number, first, block):
        """Parses a block row by row; yields the newest events of its users, and rejects."""
        parts: dict[bytes, NewestOfPart] = {}
        for offset, row in rows(first, block, self._layout.shape(number)):
            for element in super().process(((number, offset), row)):
                if isinstance(element, beam.pvalue.TaggedOutput):
                    yield element
                    continue
                user, event = element
                part = parts.get(user) or self._newest.create_accumulator()
                parts[user] = self._newest.add_input(part, event)
        yield from parts.items()

    def _parse_columns(self, number, first, block):
        """Parses a block column by column.

        Returns:
            (users, items, times, offsets) of the events, or None if the rows must be parsed one by
            one.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._parser.table
        shape, positions = self._layout.shape(number), self._layout.positions(number)
        parsed = plain_lines.columns(block, shape, positions)
        if parsed is None:
            return None
        columns, offsets = parsed
        keys = [columns[table.user], columns[table.item]]
        if any(pc.any(pc.equal(column, b"")).as_py() for column in keys):
            return None
        try:
            is_event = self._event_mask(columns)
            has_time = self._time_mask(columns[table.time])
            moments = self._times(columns[table.time].filter(pa.array(is_event & has_time)))
        except row_values.MalformedError:
            return None
        masks = {
            counters.NOT_KEPT: ~is_event,
            counters.WITHOUT_TIME: is_event & ~has_time,
            counters.EVENTS: is_event & has_time,
        }
        for name, mask in masks.items():
            # A counter that is never incremented does not appear among the counters.
            if mask.any():
                self._counters[name].inc(int(mask.sum()))
        users, items = (column.filter(pa.array(is_event & has_time)) for column in keys)
        return users, items, moments, first + offsets[is_event & has_time]

    def _event_mask(self, columns):
        table = self._parser.table
        if table.keep is None:
            return np.ones(len(columns[table.user]), bool)
        column = table.keep.column
        return _mask(columns[column], lambda value: self._parser.is_event({column: value}))

    def _time_mask(self, texts):
        if not self._parser.table.drop_without_time:
            return np.ones(len(texts), bool)
        return ~_mask(texts, lambda text: row_values.is_missing({"time": text}, "time"))

    def _times(self, texts):
        table = self._parser.table
        values = None
        if table.time_format == ISO8601:
            values = times.parse_iso(texts)
        elif table.time_format == NUMBER and table.time_decimals == 0:
            values = plain_lines.digits(texts)
        if values is not None:
            return values
        return np.array([times.parse(text, table) for text in texts.to_pylist()], np.int64)


def _mask(texts, predicate):
    """Applies a predicate to an Arrow array, once for equal texts; returns bool [n]."""
    encoded = texts.dictionary_encode()
    verdicts = np.array([predicate(text) for text in encoded.dictionary.to_pylist()], bool)
    return verdicts[np.asarray(encoded.indices)]

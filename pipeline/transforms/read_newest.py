"""The newest events of every user, from whole blocks of a log in delimited text."""

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows

from pipeline.transforms import plain_lines, row_values
from pipeline.transforms.held_events import HeldEvents
from pipeline.transforms.layouts import layout
from pipeline.transforms.newest import MergedNewest, NewestEvents
from pipeline.transforms.read_rows import SPAN, blocks, lines
from pipeline.transforms.read_tables import ParseInteraction, ReadTable


class ReadNewest(ReadTable):
    """Reads a log of delimited text as `(user id, (number of events, [(time, item)]))`.

    Row for row what `ReadInteractions` and `NewestEvents` make of it, but a row never becomes an
    element: blocks of plain lines are parsed column by column, others line by line, and either are
    cut to the newest events of their users at once, those of plain lines over many blocks.

    Args:
        spec, folder, span: see `ReadTable`. keep: newest events kept.
    """

    _name = "interactions"

    def __init__(self, spec, folder, keep, span=SPAN):
        super().__init__(spec, folder, span)
        self._keep = keep

    def expand(self, begin):
        found = layout(self._table, self._folder)
        parts, rejects = self._parsed(
            begin | "Read" >> found.spans(self._span),
            lambda *args, **kwargs: _NewestOfSpan(self._keep, *args, **kwargs),
            found,
        )
        return parts | "Newest" >> beam.CombinePerKey(MergedNewest(self._keep)), rejects


class _NewestOfSpan(ParseInteraction):
    """Spans of a text file to `(user, accumulator of NewestEvents)`."""

    def __init__(self, keep, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._newest, self._keep = NewestEvents(keep), keep

    def start_bundle(self):
        self._held = HeldEvents(self._keep)

    def process(self, span):
        number, path, start, end = span
        for offset, block in blocks(path, start, end):
            events = self._columns(number, offset, block)
            if events is None:
                yield from self._lines(number, offset, block)
            else:
                users, items, times, offsets = events
                yield from self._held.add(users, items, times, number, offsets)

    def finish_bundle(self):
        yield from map(GlobalWindows.windowed_value, self._held.taken())

    def _lines(self, number, first, block):
        """Line by line, with rejects."""
        parts = {}
        for offset, line in lines(first, block):
            for found in super().process(((number, offset), line)):
                if isinstance(found, beam.pvalue.TaggedOutput):
                    yield found
                    continue
                user, event = found
                part = parts.get(user) or self._newest.create_accumulator()
                parts[user] = self._newest.add_input(part, event)
        yield from parts.items()

    def _columns(self, number, first, block):
        """(users, items, times, offsets) of the events; None where a line needs a closer look."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._table
        found = plain_lines.columns(block, table.delimiter, self._layout.positions(number))
        if found is None:
            return None
        columns, offsets = found
        keys = [columns[table.user], columns[table.item]]
        if any(pc.any(pc.equal(column, b"")).as_py() for column in keys):
            return None
        try:
            kept = self._matching(columns)
            timed = self._timed(columns[table.time])
            times = self._times(columns[table.time].filter(pa.array(kept & timed)))
        except row_values.MalformedError:
            return None
        counted = {
            self._left_out: ~kept,
            self._without_time: kept & ~timed,
            self._events: kept & timed,
        }
        for counter, rows_of_it in counted.items():
            # One that never counts is not shown.
            if rows_of_it.any():
                counter.inc(int(rows_of_it.sum()))
        users, items = (column.filter(pa.array(kept & timed)) for column in keys)
        return users, items, times, first + offsets[kept & timed]

    def _matching(self, columns):
        keep = self._table.keep
        if keep is None:
            return np.ones(len(columns[self._table.user]), bool)
        return _each(columns[keep.column], lambda value: self._kept({keep.column: value}))

    def _timed(self, texts):
        if not self._table.drop_without_time:
            return np.ones(len(texts), bool)
        return ~_each(texts, lambda text: row_values.is_missing({"time": text}, "time"))

    def _times(self, texts):
        name, decimals = self._table.time, self._table.time_decimals
        whole = plain_lines.digits(texts) if decimals == 0 else None
        if whole is not None:
            return whole
        return np.array(
            [row_values.time({name: t}, name, decimals) for t in texts.to_pylist()], np.int64
        )


def _each(texts, verdict):
    """A verdict on every text of an Arrow array, asked once for equal ones: bool [n]."""
    coded = texts.dictionary_encode()
    verdicts = np.array([verdict(text) for text in coded.dictionary.to_pylist()], bool)
    return verdicts[np.asarray(coded.indices)]

"""Reads and parses the two tables of a dataset."""

import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.errors import InputError
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.text_rows import BLOCK
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters, row_values
from pipeline.transforms.elements import Place
from pipeline.transforms.first_rows import parser_of
from pipeline.transforms.layouts import Layout, layout_of
from pipeline.transforms.row_parsers import RowParser

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

    def __init__(self, spec: DatasetSpec, folder: AnyPath, span: int = BLOCK):
        super().__init__()
        self._spec, self._table = spec, getattr(spec, self._name)
        self._folder, self._span = folder, span

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> tuple[beam.PCollection, beam.PCollection]:
        layout = layout_of(self._table, self._folder)
        return self._parse_rows(begin | "Read" >> layout.read(self._span), Parse, layout)

    def _parse_rows(self, raw_rows, do_fn, layout):
        """Parses rows of a layout by `do_fn`, which is `Parse`; returns (rows, rejects)."""
        parser = parser_of(self._table, layout)
        parse = do_fn(self._name, parser, layout, stop=not self._spec.max_rejects)
        parsed = raw_rows | "Parse" >> beam.ParDo(parse).with_outputs(REJECTS, main=_TABLE)
        return parsed[_TABLE], parsed[REJECTS]


class Parse(beam.DoFn):
    """Parses the rows of a table.

    Input elements: (place, raw row). Output elements: see `row_parsers`; malformed rows are in the
    output `REJECTS`.

    Args:
        name: name of the table, as in the spec.
        parser: parser of the rows.
        layout: layout that splits a raw row into columns.
        stop: whether the first malformed row is an error.
    """

    def __init__(self, name: str, parser: RowParser, layout: Layout[Any], stop: bool):
        super().__init__()
        self._name, self._parser, self._layout, self._stop = name, parser, layout, stop
        names = (counters.EVENTS, counters.NOT_KEPT, counters.WITHOUT_TIME, counters.REJECTED)
        self._counters = {name: Metrics.counter(counters.NAMESPACE, name) for name in names}

    @no_annotations
    def process(self, numbered: tuple[Place, Any]) -> Iterator[Any]:
        place, raw = numbered
        try:
            counter, elements = self._parser.parse(place, self._layout.columns(place, raw))
        except row_values.MalformedError as error:
            if self._stop:
                # The row's number is known only after a look at all rows before it, which is fine
                # for one error and too slow for each reject.
                where = self._layout.row(place)
                fix = f"Correct or remove the row. {error.fix}".strip()
                raise InputError(where, str(error), fix) from error
            self._counters[counters.REJECTED].inc()
            reject = {
                "table": self._name,
                "place": self._layout.position(place),
                "rule": str(error),
                "row": self._layout.text(raw),
            }
            yield beam.pvalue.TaggedOutput(REJECTS, json.dumps(reject))
            return
        if counter:
            self._counters[counter].inc()
        yield from elements


class ReadInteractions(ReadTable):
    """Reads the log.

    Output elements: (user id, (time, place, item id)), ids as bytes.
    """

    _name = "interactions"


class ReadUsers(ReadTable):
    """Reads the users' table.

    Output elements: (user id, (place, {feature: values})). Values are a list of bytes or of floats,
    empty when the value is missing.
    """

    _name = "users"

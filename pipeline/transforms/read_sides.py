"""Reads the events of every user on both sides of a time T, for `data.split: time`."""

import dataclasses
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.config import DataConfig
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.text_rows import BLOCK
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters, first_rows, split_time
from pipeline.transforms.deduplicate import DropDuplicates
from pipeline.transforms.newest import NewestEvents, OldestEvents
from pipeline.transforms.read_tables import ReadInteractions

BEFORE, LATER = "before", "later"


class ReadSides(beam.PTransform):
    """Reads the log, cut to the newest events before T and the first ones at T or later.

    Input: the beginning of a pipeline. Output: three collections. The elements of the first two are
    (user id, (number of events, [(time, item id)])), oldest first, of the events before T and of
    the later ones; the third are rejects as in `ReadTable`.

    `DataConfig.split_time` says what T is. The events are read row by row. T and the number of
    events at T or later are counted, see `counters`.

    Args:
        spec: see `ReadTable`.
        folder: see `ReadTable`.
        data: settings of the data.
        newest: number of newest events before T that are kept.
        first: number of first events at T or later that are kept.
        span: see `ReadTable`.

    Raises:
        InputError: see `ReadTable` and `first_rows.split_time`.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folder: AnyPath,
        data: DataConfig,
        newest: int,
        first: int,
        span: int = BLOCK,
    ):
        super().__init__()
        self._time = first_rows.split_time(spec, folder, data)
        self._by_period = self._time is None and spec.interactions.test_period is not None
        self._read = ReadInteractions(
            spec if self._by_period else without_period(spec), folder, span
        )
        self._share, self._newest, self._first = data.test_share, newest, first
        self._drop_duplicates = spec.interactions.drop_duplicates

    @no_annotations
    def expand(
        self, begin: beam.pvalue.PBegin
    ) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
        events, rejects = begin | "Read" >> self._read
        if self._by_period:
            sides = _divide(events, _ByPeriod())
            before, later = (self._distinct(side, name) for name, side in sides.items())
        else:
            events = self._distinct(events, "all")
            time = (
                begin | "Time" >> beam.Create([self._time])
                if self._time is not None
                else events | "Time" >> split_time.TimeOfShare(self._share)
            ) | "Report" >> beam.Map(split_time.report)
            before, later = _divide(events, _ByTime(), beam.pvalue.AsSingleton(time)).values()
        return (
            before | "Newest" >> beam.CombinePerKey(NewestEvents(self._newest)),
            later | "First" >> beam.CombinePerKey(OldestEvents(self._first)),
            rejects,
        )

    def _distinct(self, events, label):
        if self._drop_duplicates:
            events |= f"Distinct[{label}]" >> DropDuplicates()
        return events


def without_period(spec: DatasetSpec) -> DatasetSpec:
    """Returns a spec without `test_period`, whose column is then not read."""
    log = dataclasses.replace(spec.interactions, test_period=None)
    return dataclasses.replace(spec, interactions=log)


def _divide(events, to_side, *side_inputs):
    """Returns `{side: events}`, with BEFORE first."""
    # Beam would infer a type of the elements from the code, which is not that of one side.
    divide = beam.ParDo(to_side, *side_inputs).with_output_types(Any)
    sides = events | "Side" >> divide.with_outputs(LATER, main=BEFORE)
    return {side: sides[side] for side in (BEFORE, LATER)}


class _Sides(beam.DoFn):
    def __init__(self):
        super().__init__()
        self._later = Metrics.counter(counters.NAMESPACE, counters.LATER_EVENTS)

    def _to_side(self, user, event, is_later):
        if not is_later:
            return user, event
        self._later.inc()
        return beam.pvalue.TaggedOutput(LATER, (user, event))


class _ByTime(_Sides):
    def process(self, element, time):
        user, event = element
        yield self._to_side(user, event, event[0] >= time)


class _ByPeriod(_Sides):
    def process(self, element):
        yield self._to_side(*element)

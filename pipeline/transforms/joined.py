"""Joins the events and the user features of every user."""

from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.config import BY_TIME, DataConfig
from pipeline.datasets.formats import is_text
from pipeline.datasets.spec import DatasetSpec
from pipeline.storage.folders import AnyPath
from pipeline.transforms.deduplicate import DropDuplicates
from pipeline.transforms.elements import TimedItem
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_newest import ReadNewest
from pipeline.transforms.read_sides import ReadSides, without_period
from pipeline.transforms.read_tables import ReadInteractions, ReadUsers
from pipeline.transforms.record import events_needed, later_needed

EVENTS, LATER, USERS = "events", "later", "users"


class JoinedUsers(beam.PTransform):
    """Joins events and user features by user.

    Input: the beginning of a pipeline. Output elements: (user id, {EVENTS: [(number of events,
    newest events [(time, item)], oldest first)], USERS: [(place, {feature: values})]}), where place
    is (file, position) of a row. With `data.split: time`, EVENTS are those before T, and LATER are
    the others, of which the first ones are kept.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.
        data: settings of the data; None keeps the newest events of any time.
        span: number of bytes that a worker reads at a time.
        rejects: prefix of the files of malformed rows, or None.
        keep: number of newest events without `data`.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folder: AnyPath,
        data: DataConfig | None,
        span: int,
        rejects: str | None,
        keep: int = 0,
    ):
        super().__init__()
        keep = events_needed(data) if data else keep
        self._users, self._rejects = ReadUsers(spec, folder, span), rejects
        self._events: beam.PTransform
        if data and data.split == BY_TIME:
            self._events = ReadSides(spec, folder, data, keep, later_needed(data), span)
        else:
            self._events = _read_newest(without_period(spec), folder, keep, span)

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        *sides, rejected_events = begin | "Interactions" >> self._events
        users, rejected_users = begin | "Users" >> self._users
        if self._rejects:
            _ = (
                (rejected_events, rejected_users)
                | "Rejects" >> beam.Flatten()
                | "WriteRejects" >> beam.io.WriteToText(self._rejects, ".jsonl", skip_if_empty=True)
            )
        events = dict(zip((EVENTS, LATER), sides, strict=False))
        return {**events, USERS: users} | "Join" >> beam.CoGroupByKey()


def events_of(joined: Mapping[str, Any], side: str = EVENTS) -> tuple[int, list[TimedItem]]:
    """Returns a user's number of events and those that were kept, from the output of `JoinedUsers`.

    Args:
        joined: the second part of an element.
        side: EVENTS or LATER.
    """
    ((count, events),) = list(joined.get(side, ())) or [(0, [])]
    return count, events


def _read_newest(spec: DatasetSpec, folder: AnyPath, keep: int, span: int) -> beam.PTransform:
    log = spec.interactions
    # Only text is read by whole blocks, and duplicates are found among single rows.
    reads_blocks = is_text(log, folder) and not log.drop_duplicates
    reader = ReadNewest if reads_blocks else _ReadEachEvent
    return reader(spec, folder, keep, span)


class _ReadEachEvent(beam.PTransform):
    """Reads the events of any table one by one, and keeps the newest ones of each user.

    Duplicates are dropped if the spec says so. The output is that of `ReadNewest`, which is faster
    because it does not make a Beam element of each row.
    """

    def __init__(self, spec, folder, keep, span):
        super().__init__()
        self._read, self._keep = ReadInteractions(spec, folder, span), keep
        self._drop_duplicates = spec.interactions.drop_duplicates

    def expand(self, begin):
        events, rejects = begin | "Read" >> self._read
        if self._drop_duplicates:
            events |= "Distinct" >> DropDuplicates()
        return events | "Newest" >> beam.CombinePerKey(NewestEvents(self._keep)), rejects

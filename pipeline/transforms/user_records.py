"""From the raw tables to user records: by split for training, or of everybody as of now."""

import apache_beam as beam
from apache_beam.metrics import Metrics

from cmclrec_tf.schema import SEGMENT, SPLITS, TRAIN
from pipeline.transforms import counters
from pipeline.transforms.first import FirstOfEqual
from pipeline.transforms.layouts import is_text
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_newest import ReadNewest
from pipeline.transforms.read_rows import SPAN
from pipeline.transforms.read_tables import ReadInteractions, ReadUsers
from pipeline.transforms.record import EVERYBODY, build_records, current_record, events_needed


class UserRecords(beam.PTransform):
    """Reads a dataset's tables as `{split: collection of user records}`.

    A record is `{field: list}`, see `record.build_records`. Users with too few events, and users of
    the users' table without any event, are dropped; users with events who are not in the users'
    table are kept without user features. All are counted, see `counters`.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.
        data: `DataConfig`.
        span: bytes that one worker reads at a time.
        rejects: prefix of the files that malformed rows are written to, see `tables`; None where
            they are only counted.

    Raises:
        InputError: as of `formats.inspect`; while running, a malformed row where none is allowed.
    """

    def __init__(self, spec, folder, data, span=SPAN, rejects=None):
        super().__init__()
        self._joined = _Joined(spec, folder, events_needed(data), span, rejects)
        self._spec, self._data = spec, data

    def expand(self, begin):
        to_record = _ToRecord(self._spec.users.features, self._data)
        tagged = (
            begin
            | "Joined" >> self._joined
            | "Records" >> beam.ParDo(to_record).with_outputs(*SPLITS)
        )
        return {split: tagged[split] for split in SPLITS}


class CurrentUsers(beam.PTransform):
    """Reads a dataset's tables as records of all users as they are now, to recommend to.

    A record has the newest `data.max_history` items as its history and no target. Whoever is in
    either table has one; without any event it is a cold user's. Users are counted as in
    `UserRecords`, in the split `EVERYBODY`.

    Args, errors: as of `UserRecords`.
    """

    def __init__(self, spec, folder, data, span=SPAN, rejects=None):
        super().__init__()
        self._joined = _Joined(spec, folder, data.max_history, span, rejects)
        self._columns = spec.users.features

    def expand(self, begin):
        return begin | "Joined" >> self._joined | "Records" >> beam.ParDo(_ToCurrent(self._columns))


class _Joined(beam.PTransform):
    """(user id, {"events": [(number, newest events)], "users": [(place, features)]})."""

    def __init__(self, spec, folder, keep, span, rejects):
        super().__init__()
        self._spec, self._folder, self._keep = spec, folder, keep
        self._span, self._rejects = span, rejects

    def expand(self, begin):
        newest, bad_events = begin | "Interactions" >> self._newest()
        users, bad_users = begin | "Users" >> ReadUsers(self._spec, self._folder, self._span)
        if self._rejects:
            _ = (
                (bad_events, bad_users)
                | "Rejects" >> beam.Flatten()
                | "WriteRejects" >> beam.io.WriteToText(self._rejects, ".jsonl", skip_if_empty=True)
            )
        return {"events": newest, "users": users} | "Join" >> beam.CoGroupByKey()

    def _newest(self):
        log = self._spec.interactions
        whole_spans = is_text(log) and not log.drop_duplicates
        read = ReadNewest if whole_spans else _ReadEachEvent
        return read(self._spec, self._folder, self._keep, self._span)


class _ReadEachEvent(beam.PTransform):
    """As `ReadNewest`, of any table, and without duplicates on demand: every row an element."""

    def __init__(self, spec, folder, keep, span):
        super().__init__()
        self._read, self._keep = ReadInteractions(spec, folder, span), keep
        self._distinct = spec.interactions.drop_duplicates

    def expand(self, begin):
        events, rejects = begin | "Read" >> self._read
        if self._distinct:
            events |= "Distinct" >> FirstOfEqual()
        return events | "Newest" >> beam.CombinePerKey(NewestEvents(self._keep)), rejects


class _FromJoined(beam.DoFn):
    def __init__(self, columns):
        super().__init__()
        self._names = [column.name for column in columns]

    def _read(self, found):
        """A joined user's rows of the users' table, number of events and newest events."""
        users = sorted(found["users"], key=lambda user: user[0])
        ((count, events),) = list(found["events"]) or [(0, [])]
        if len(users) > 1:
            _count(counters.REPEATED)
        return users, count, events

    def _features(self, users):
        if users:
            return users[0][1]
        _count(counters.WITHOUT_FEATURES)
        return {name: [] for name in self._names}


class _ToCurrent(_FromJoined):
    def process(self, joined):
        user_id, found = joined
        users, _, events = self._read(found)
        record = current_record(user_id, events, self._features(users))
        _count(counters.kept(EVERYBODY, record[SEGMENT][0].decode()))
        yield record


class _ToRecord(_FromJoined):
    def __init__(self, columns, data):
        super().__init__(columns)
        self._data = data

    def process(self, joined):
        user_id, found = joined
        users, count, events = self._read(found)
        if count == 0:
            _count(counters.WITHOUT_EVENTS)
        elif count < self._data.min_events:
            _count(counters.FEW_EVENTS)
        else:
            features = self._features(users)
            for split, record in build_records(user_id, events, features, self._data):
                self._count_kept(split, record)
                yield beam.pvalue.TaggedOutput(split, record)

    def _count_kept(self, split, record):
        _count(counters.kept(split, record[SEGMENT][0].decode()))
        if split == TRAIN:
            for name in self._names:
                _count(counters.valued(name), int(bool(record[name])))


def _count(name, number=1):
    Metrics.counter(counters.NAMESPACE, name).inc(number)

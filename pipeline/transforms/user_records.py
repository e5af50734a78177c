"""From the raw tables to user records by split."""

import apache_beam as beam
from apache_beam.metrics import Metrics

from cmclrec_tf.schema import SEGMENT, SPLITS, TRAIN
from pipeline.transforms import counters
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_rows import SPAN
from pipeline.transforms.record import build_records, events_needed
from pipeline.transforms.tables import ReadInteractions, ReadUsers


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

    Raises:
        InputError: a missing column; while running, a malformed row.
    """

    def __init__(self, spec, folder, data, span=SPAN):
        super().__init__()
        self._spec, self._folder, self._data, self._span = spec, folder, data, span

    def expand(self, begin):
        events = (
            begin
            | "Interactions" >> ReadInteractions(self._spec.interactions, self._folder, self._span)
            | "Newest" >> beam.CombinePerKey(NewestEvents(events_needed(self._data)))
        )
        users = begin | "Users" >> ReadUsers(self._spec.users, self._folder, self._span)
        columns = self._spec.users.features
        tagged = (
            {"events": events, "users": users}
            | "Join" >> beam.CoGroupByKey()
            | "Records" >> beam.ParDo(_ToRecord(columns, self._data)).with_outputs(*SPLITS)
        )
        return {split: tagged[split] for split in SPLITS}


class _ToRecord(beam.DoFn):
    def __init__(self, columns, data):
        super().__init__()
        self._names = [column.name for column in columns]
        self._data = data

    def process(self, joined):
        user_id, found = joined
        users = sorted(found["users"], key=lambda user: user[0])
        ((count, events),) = list(found["events"]) or [(0, [])]
        if len(users) > 1:
            _count(counters.REPEATED)
        if count == 0:
            _count(counters.WITHOUT_EVENTS)
        elif count < self._data.min_events:
            _count(counters.FEW_EVENTS)
        else:
            features = self._features(users)
            for split, record in build_records(user_id, events, features, self._data):
                self._count_kept(split, record)
                yield beam.pvalue.TaggedOutput(split, record)

    def _features(self, users):
        if users:
            return users[0][1]
        _count(counters.WITHOUT_FEATURES)
        return {name: [] for name in self._names}

    def _count_kept(self, split, record):
        _count(counters.kept(split, record[SEGMENT][0].decode()))
        if split == TRAIN:
            for name in self._names:
                _count(counters.valued(name), int(bool(record[name])))


def _count(name, number=1):
    Metrics.counter(counters.NAMESPACE, name).inc(number)

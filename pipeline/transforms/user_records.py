"""Turns the raw tables into user records, split for training or one up-to-date record per user."""

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.config import BY_TIME, DataConfig
from cmclrec_tf.schema import SEGMENT, SPLITS, TRAIN
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.text_rows import BLOCK
from pipeline.storage.folders import AnyPath
from pipeline.transforms import counters
from pipeline.transforms.check_records import check_sides
from pipeline.transforms.joined import LATER, USERS, JoinedUsers, events_of
from pipeline.transforms.record import ALL_USERS, build_records, current_record


class UserRecords(beam.PTransform):
    """Reads the tables of a dataset and builds user records for training and evaluation.

    Input: the beginning of a pipeline. Output: `{split: collection}`, whose elements are user
    records `{field: values}`, see `record.build_records`.

    Users with too few events, and users without any event, are dropped. With `data.split: time`
    users without an event before T are kept if they have a later one, and the number of the others'
    events before T decides. Users with events who are not in the users' table are kept without user
    features. Each of these groups is counted, see `counters`.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.
        data: settings of the data.
        span: number of bytes that a worker reads at a time.
        rejects: prefix of the files that malformed rows are written to, see `read_tables`; without
            it they are only counted.

    Raises:
        InputError: the files do not fit the spec, see `datasets.formats.inspect`; or, while
            running, a row is malformed and `spec.max_rejects` is 0.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folder: AnyPath,
        data: DataConfig,
        span: int = BLOCK,
        rejects: str | None = None,
    ):
        super().__init__()
        self._joined = JoinedUsers(spec, folder, data, span, rejects)
        self._spec, self._data = spec, data

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> dict[str, beam.PCollection]:
        to_record = _ToRecord(self._spec.users.columns, self._data)
        tagged = (
            begin
            | "Joined" >> self._joined
            | "Records" >> beam.ParDo(to_record).with_outputs(*SPLITS)
        )
        return {split: tagged[split] for split in SPLITS}


class CurrentUsers(beam.PTransform):
    """Reads the tables of a dataset and builds a record of every user, to recommend to.

    Input: the beginning of a pipeline. Output elements: user records `{field: values}`, whose
    history is the newest `data.max_history` items and whose target is empty. Every user of either
    table has a record, also with fewer events than `data.min_events`; a user without events is
    cold. Users are counted as in `UserRecords`, in the split `ALL_USERS`.

    Args:
        spec: see `UserRecords`.
        folder: see `UserRecords`.
        data: see `UserRecords`.
        span: see `UserRecords`.
        rejects: see `UserRecords`.

    Raises:
        InputError: see `UserRecords`.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folder: AnyPath,
        data: DataConfig,
        span: int = BLOCK,
        rejects: str | None = None,
    ):
        super().__init__()
        self._joined = JoinedUsers(spec, folder, None, span, rejects, keep=data.max_history)
        self._columns = spec.users.columns

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return begin | "Joined" >> self._joined | "Records" >> beam.ParDo(_ToCurrent(self._columns))


class _FromJoined(beam.DoFn):
    def __init__(self, columns):
        super().__init__()
        self._names = [column.name for column in columns]

    def _users(self, joined):
        """Returns the user's rows of the users' table, the first one first."""
        users = sorted(joined[USERS], key=lambda user: user[0])
        if len(users) > 1:
            _count(counters.REPEATED)
        return users

    def _features(self, users):
        """Returns `{feature: values}` of the user's first row, or empty values without a row."""
        if users:
            _, features = users[0]
            return features
        _count(counters.WITHOUT_FEATURES)
        return {name: [] for name in self._names}


class _ToCurrent(_FromJoined):
    def process(self, element):
        user_id, joined = element
        users, (_, events) = self._users(joined), events_of(joined)
        record = current_record(user_id, events, self._features(users))
        _count(counters.users_in(ALL_USERS, record[SEGMENT][0].decode()))
        yield record


class _ToRecord(_FromJoined):
    def __init__(self, columns, data):
        super().__init__(columns)
        self._data = data

    def process(self, element):
        user_id, joined = element
        users, (count, events) = self._users(joined), events_of(joined)
        _, later = events_of(joined, LATER)
        if count == 0 and not later:
            _count(counters.WITHOUT_EVENTS)
        elif 0 < count < self._data.min_events:
            _count(counters.FEW_EVENTS)
        else:
            features = self._features(users)
            for split, record in build_records(user_id, events, features, self._data, later):
                if self._data.split == BY_TIME:
                    check_sides(split, record, events, later)
                self._count_record(split, record)
                yield beam.pvalue.TaggedOutput(split, record)

    def _count_record(self, split, record):
        _count(counters.users_in(split, record[SEGMENT][0].decode()))
        if split == TRAIN:
            for name in self._names:
                _count(counters.users_with(name), int(bool(record[name])))


def _count(name, number=1):
    Metrics.counter(counters.NAMESPACE, name).inc(number)

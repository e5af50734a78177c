"""Builds user records from a user's newest events and user features."""

from collections.abc import Sequence

from cmclrec_tf.config import BY_TIME, BY_USERS, DataConfig
from cmclrec_tf.schema import (
    COLD,
    HISTORY,
    HISTORY_TIME,
    SEGMENT,
    SPLITS,
    TARGET,
    TARGET_TIME,
    TEST,
    USER_ID,
    WARM,
)
from pipeline.transforms.elements import FeatureValues, TimedItem, UserRecord
from pipeline.transforms.split import assign_before, assign_split

# Part of the cache key: increase it with every change of the content of records.
RECORD_VERSION = 6

# The only split of the records that lists are made for.
ALL_USERS = "everybody"

# With `data.target: all`, number of newest events of a cold user that may become targets. It bounds
# the memory that one user takes.
MAX_TARGETS = 2000


def events_needed(data: DataConfig) -> int:
    """Returns the number of newest events of a user that its records are built from.

    With `data.split` "time" these are events before T, see also `later_needed`.
    """
    if data.split == BY_TIME:
        return data.max_history + 1
    needed = data.max_history + (1 if data.split == BY_USERS else len(SPLITS))
    return max(needed, MAX_TARGETS) if data.target == "all" else needed


def later_needed(data: DataConfig) -> int:
    """Returns the number of first events at T or later that a user's records are built from."""
    return MAX_TARGETS if data.target == "all" else 1


def build_records(
    user_id: bytes,
    events: Sequence[TimedItem],
    features: FeatureValues,
    data: DataConfig,
    later: Sequence[TimedItem] = (),
) -> list[tuple[str, UserRecord]]:
    """Builds all records of a user.

    With `data.split` "users" a user is in one split, see `build_record`. With "leave-one-out" a
    user is in every split: the target is the last item in test, the one before it in val, the one
    before that in train. The history is the items before the target.

    With "time" the events before T make a record in train or val, whose target is the last item. If
    such a user has later events, a warm record in test has all events before T as its history, and
    the first later item as its target. A user without events before T is cold, with the first later
    item as the target, or with `data.target` "all" every later item, once each and the first one
    last.

    Args:
        user_id: id as in the raw files.
        events: oldest first, with "time" those before T; at least two, or four for leave-one-out.
            With "time" there may be none.
        features: user features.
        data: settings of the data.
        later: with "time" the events at T or later, oldest first; at least one if there are no
            other events.

    Returns:
        `[(split, record)]`.
    """
    if data.split == BY_USERS:
        return [build_record(user_id, events, features, data)]
    if data.split == BY_TIME:
        return _records_by_time(user_id, events, features, data, later)
    ends = [(split, events[: len(events) - later]) for later, split in enumerate(reversed(SPLITS))]
    return [(split, _warm_record(user_id, until, features, data)) for split, until in ends]


def build_record(
    user_id: bytes, events: Sequence[TimedItem], features: FeatureValues, data: DataConfig
) -> tuple[str, UserRecord]:
    """Builds the record of a user that is in one split.

    The target of a warm user is the last item, and the history is the items before it. The record
    of a cold user keeps nothing of the events but the target: the last item, or with `data.target`
    "all" every item of the newest MAX_TARGETS events, once each, in the order of its newest event.
    The last item is always the last target.

    Args:
        user_id: id as in the raw files.
        events: oldest first; at least two.
        features: user features.
        data: settings of the data.

    Returns:
        `(split, record)`.
    """
    split, segment = assign_split(user_id, data)
    if segment != COLD:
        return split, _warm_record(user_id, events, features, data)
    target = _once_each(reversed(events)) if data.target == "all" else events[-1:]
    return split, _record(user_id, COLD, [], target, features)


def current_record(
    user_id: bytes, events: Sequence[TimedItem], features: FeatureValues
) -> UserRecord:
    """Builds a record to recommend from: all events are history, and there is no target.

    Args:
        user_id: id as in the raw files.
        events: oldest first; without any the user is cold.
        features: user features.
    """
    return _record(user_id, WARM if events else COLD, events, [], features)


def _records_by_time(user_id, events, features, data, later):
    first = later[:1]
    if not events:
        target = _once_each(later) if data.target == "all" else first
        return [(TEST, _record(user_id, COLD, [], target, features))]
    split = assign_before(user_id, data)
    records = [(split, _warm_record(user_id, events, features, data))]
    if later:
        history = events[-data.max_history :]
        records.append((TEST, _record(user_id, WARM, history, first, features)))
    return records


def _warm_record(user_id, events, features, data):
    *before, last = events
    return _record(user_id, WARM, before[-data.max_history :], [last], features)


def _once_each(events):
    """Returns the first event of each item, in reverse order.

    The item that every user is evaluated on is that of the first event, and so the last target.
    """
    first: dict[bytes, int] = {}
    for time, item in events:
        first.setdefault(item, time)
    return [(time, item) for item, time in reversed(first.items())]


def _record(user_id, segment, history, target, features):
    return {
        USER_ID: [user_id],
        SEGMENT: [segment.encode()],
        HISTORY: [item for _, item in history],
        HISTORY_TIME: [time for time, _ in history],
        TARGET: [item for _, item in target],
        TARGET_TIME: [time for time, _ in target],
        **features,
    }

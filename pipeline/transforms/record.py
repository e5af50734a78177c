"""One user record, from a user's newest events and user features."""

from cmclrec_tf.schema import COLD, HISTORY, HISTORY_TIME, SEGMENT, SPLITS, TARGET, USER_ID, WARM
from pipeline.transforms.split import draw

# Part of the cache key: a change of what a record holds asks for another number.
RECORD_VERSION = 3

# The one split of records of all users as they are now.
EVERYBODY = "everybody"

# Newest items that a cold user is judged on when the target is `all`: bounds what one key holds.
MAX_TARGETS = 2000


def events_needed(data):
    """Newest events of a user that a record is made of."""
    needed = data.max_history + (1 if data.split == "users" else len(SPLITS))
    return max(needed, MAX_TARGETS) if data.target == "all" else needed


def build_records(user_id, events, features, data):
    """A user's records, each with its split.

    By `data.split` a user is in one split, see `build_record`, or in all of them: then the target
    is the last item in test, the one before in val, the one before that in train, and the history
    is what came before the target.

    Args: as of `build_record`; events of the latter must be at least four.

    Returns:
        list of `(split, record)`.
    """
    if data.split == "users":
        return [build_record(user_id, events, features, data)]
    ends = [(split, events[: len(events) - later]) for later, split in enumerate(reversed(SPLITS))]
    return [(split, _warm_record(user_id, found, features, data)) for split, found in ends]


def build_record(user_id, events, features, data):
    """A user's split and record, by the draw of users.

    A warm user's target is the last item, and the history what came before it. A cold user's
    record holds nothing of the events but the target: the last item, or every item, once each, in
    the order of their newest events (the newest MAX_TARGETS events are looked at). So the last item
    is always the target's last.

    Args:
        user_id: bytes.
        events: `[(time, item id)]`, oldest first, at least two.
        features: `{name: values}`.
        data: `DataConfig`.

    Returns:
        `(split, record)`; the record is `{field: list}`.
    """
    split, segment = draw(user_id, data)
    if segment != COLD:
        return split, _warm_record(user_id, events, features, data)
    target = [events[-1][1]]
    if data.target == "all":
        target = list(dict.fromkeys(item for _, item in reversed(events)))[::-1]
    return split, _record(user_id, COLD, [], target, features)


def current_record(user_id, events, features):
    """A user's record as of now: every given event is history, and there is no target.

    Args: as of `build_record`; there may be no event at all.
    """
    return _record(user_id, WARM if events else COLD, events, [], features)


def _warm_record(user_id, events, features, data):
    *before, (_, last) = events
    return _record(user_id, WARM, before[-data.max_history :], [last], features)


def _record(user_id, segment, before, target, features):
    return {
        USER_ID: [user_id],
        SEGMENT: [segment.encode()],
        HISTORY: [item for _, item in before],
        HISTORY_TIME: [time for time, _ in before],
        TARGET: target,
        **features,
    }

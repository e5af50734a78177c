"""One user record, from a user's newest events and user features."""

from cmclrec_tf.schema import COLD, HISTORY, HISTORY_TIME, SEGMENT, TARGET, USER_ID
from pipeline.transforms.split import draw

# Part of the cache key: a change of what a record holds asks for another number.
RECORD_VERSION = 3

# Newest items that a cold user is judged on when the target is `all`: bounds what one key holds.
MAX_TARGETS = 2000


def events_needed(data):
    """Newest events of a user that a record is made of."""
    needed = data.max_history + 1
    return max(needed, MAX_TARGETS) if data.target == "all" else needed


def build_record(user_id, events, features, data):
    """A user's split and record.

    A warm user's target is the last item, and the history what came before it. A cold user's
    record holds nothing of the events but the target: the last item, or every item, once each, in
    the order of their newest events (the newest MAX_TARGETS events are looked at). So the last item
    is always the target's last.

    Args:
        user_id: bytes.
        events: `[(time, place, item id)]`, oldest first, at least two.
        features: `{name: values}`.
        data: `DataConfig`.

    Returns:
        `(split, record)`; the record is `{field: list}`.
    """
    split, segment = draw(user_id, data)
    *before, (_, _, last) = events
    before = before[-data.max_history :]
    target = [last]
    if segment == COLD:
        before = []
        if data.target == "all":
            target = list(dict.fromkeys(item for _, _, item in reversed(events)))[::-1]
    return split, {
        USER_ID: [user_id],
        SEGMENT: [segment.encode()],
        HISTORY: [item for _, _, item in before],
        HISTORY_TIME: [time for time, _, _ in before],
        TARGET: target,
        **features,
    }

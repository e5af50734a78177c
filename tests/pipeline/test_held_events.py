"""Columns of events that are cut at any time give the same result as all events at once."""

import collections

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.transforms.held_events import HeldEvents
from pipeline.transforms.newest import NewestEvents

KEEP = 3
EVENTS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"\xff"]), st.integers(-1, 3), st.integers(0, 99)),
    unique_by=lambda event: event[2],
)


def add_all(held, blocks):
    """Adds blocks of (user, time, offset), each as a file of its own; yields all parts."""
    for number, events in enumerate(blocks):
        users, times, offsets = zip(*events, strict=True) if events else ((), (), ())
        items = [b"%d-%d" % (number, offset) for offset in offsets]
        users, items = pa.array(users, pa.binary()), pa.array(items, pa.binary())
        yield from held.add(
            users, items, np.array(times, np.int64), number, np.array(offsets, np.int64)
        )
    yield from held.take_all()


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(EVENTS), max_bytes=st.sampled_from([0, 200, 500, 1 << 20]))
def test_the_result_equals_that_of_all_events_at_once(blocks, max_bytes):
    combine, parts, whole = NewestEvents(KEEP), collections.defaultdict(list), {}
    for user, part in add_all(HeldEvents(KEEP, max_bytes), blocks):
        parts[user].append(part)
    for number, events in enumerate(blocks):
        for user, time, offset in events:
            event = (time, (number, offset), b"%d-%d" % (number, offset))
            whole[user] = combine.add_input(whole.get(user, (0, [])), event)
    merged = {user: combine.merge_accumulators(of_user) for user, of_user in parts.items()}
    assert merged == {user: (count, sorted(newest)) for user, (count, newest) in whole.items()}


@pytest.mark.parametrize("users", [1, 1000])
def test_no_more_is_held_than_allowed(users):
    """Events of few users are cut, those of many users are given out."""
    held, most, given_out = HeldEvents(KEEP, 20_000), 0, []
    for block in range(50):
        ids = pa.array([b"%d" % (n * block % users) for n in range(100)])
        numbers = np.arange(100) + 100 * block
        given_out += held.add(ids, ids, numbers, 0, numbers)
        most = max(most, held._bytes)
    assert most <= 20_000
    assert bool(given_out) == (users > 1)
    assert sum(count for _, (count, _) in [*given_out, *held.take_all()]) == 5000
    assert list(held.take_all()) == []

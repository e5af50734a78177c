"""Which records a user's events make, by the split."""

import dataclasses

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.transforms.record import build_records, events_needed

EVENTS = [(10 * n, f"i{n}".encode()) for n in range(1, 7)]
FEATURES = {"age": [3.0]}
DATA = DataConfig(max_history=3, split="leave-one-out")


def _records(events=EVENTS, data=DATA):
    return dict(build_records(b"u", events, FEATURES, data))


def test_leave_one_out_ends_each_split_one_item_earlier():
    found = {split: (r["history"], r["target"]) for split, r in _records().items()}
    assert found == {
        "test": ([b"i3", b"i4", b"i5"], [b"i6"]),
        "val": ([b"i2", b"i3", b"i4"], [b"i5"]),
        "train": ([b"i1", b"i2", b"i3"], [b"i4"]),
    }


def test_leave_one_out_leaves_nobody_cold_and_keeps_times_and_features():
    for record in _records().values():
        assert record["segment"] == [b"warm"]
        assert record["age"] == [3.0]
        assert [f"i{time // 10}".encode() for time in record["history_time"]] == record["history"]


def test_the_fewest_events_still_give_a_history_in_train():
    assert _records(EVENTS[:4])["train"]["history"] == [b"i1"]


def test_as_many_events_are_kept_as_the_earliest_target_needs():
    data = dataclasses.replace(DATA, max_history=1)
    kept = EVENTS[-events_needed(data) :]
    assert len(kept) < len(EVENTS)
    assert _records(kept, data) == _records(EVENTS, data)


def test_users_are_in_one_split_by_default():
    data = dataclasses.replace(DATA, split="users")
    assert len(build_records(b"u", EVENTS, FEATURES, data)) == 1


def test_too_few_events_for_leave_one_out_are_refused():
    with pytest.raises(InputError, match="min_events=3"):
        DataConfig(split="leave-one-out", min_events=3)

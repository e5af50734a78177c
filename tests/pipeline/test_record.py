"""Records that a user's events become, by the kind of split."""

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
    items = {split: (r["history"], r["target"]) for split, r in _records().items()}
    assert items == {
        "test": ([b"i3", b"i4", b"i5"], [b"i6"]),
        "val": ([b"i2", b"i3", b"i4"], [b"i5"]),
        "train": ([b"i1", b"i2", b"i3"], [b"i4"]),
    }


def test_leave_one_out_has_no_cold_users_and_keeps_times_and_features():
    for record in _records().values():
        assert record["segment"] == [b"warm"]
        assert record["age"] == [3.0]
        for items in ("history", "target"):
            assert [f"i{time // 10}".encode() for time in record[f"{items}_time"]] == record[items]


def test_a_cold_record_has_the_times_of_its_targets_alone():
    data = DataConfig(salt="cold", test_share=0.9, target="all")
    events = [(10, b"a"), (20, b"b"), (30, b"a")]
    records = [build_records(b"u%d" % n, events, FEATURES, data)[0][1] for n in range(20)]
    cold = [record for record in records if record["segment"] == [b"cold"]]
    assert cold
    for record in cold:
        assert record["history"] == record["history_time"] == []
        assert (record["target"], record["target_time"]) == ([b"b", b"a"], [20, 30])


def test_the_fewest_events_still_give_a_history_in_train():
    assert _records(EVENTS[:4])["train"]["history"] == [b"i1"]


def test_enough_events_are_kept_for_the_earliest_target():
    data = dataclasses.replace(DATA, max_history=1)
    newest = EVENTS[-events_needed(data) :]
    assert len(newest) < len(EVENTS)
    assert _records(newest, data) == _records(EVENTS, data)


def test_users_are_in_one_split_by_default():
    data = dataclasses.replace(DATA, split="users")
    assert len(build_records(b"u", EVENTS, FEATURES, data)) == 1


def test_too_few_events_for_leave_one_out_are_refused():
    with pytest.raises(InputError, match="min_events=3"):
        DataConfig(split="leave-one-out", min_events=3)

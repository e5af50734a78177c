"""The split by time: hand-made rows with typed-out records, T in all its forms, planted leaks."""

import dataclasses
import random

import apache_beam as beam
import numpy as np
import pytest
import yaml
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.components.population import check_population, summary
from pipeline.datasets import check, load_spec
from pipeline.transforms import counters, first_rows, record, split_time, user_records
from pipeline.transforms.check_records import CheckRecords, check_sides
from pipeline.transforms.newest import NewestEvents, OldestEvents
from pipeline.transforms.user_records import CurrentUsers, UserRecords

# With this salt ann and bob are in train, and fay is in val.
DATA = DataConfig(
    max_history=2, min_events=2, split="time", salt="5", val_share=0.4, split_time="100"
)
# T is 100. Rows are out of order; dan has one event before T, eve has none at all.
LOG = """\
user,item,time,date,phase
ann,i5,120,1970-01-01T00:00:00.000120,test
cat,i9,110,1970-01-01T00:00:00.000110,test
ann,i1,10,1970-01-01T00:00:00.000010,train
ann,i3,30,1970-01-01T00:00:00.000030,train
ann,i2,20,1970-01-01T00:00:00.000020,train
ann,i4,100,1970-01-01T00:00:00.000100,test
bob,i1,40,1970-01-01T00:00:00.000040,train
bob,i2,50,1970-01-01T00:00:00.000050,train
cat,i1,105,1970-01-01T00:00:00.000105,test
cat,i9,130,1970-01-01T00:00:00.000130,test
dan,i1,10,1970-01-01T00:00:00.000010,train
dan,i2,110,1970-01-01T00:00:00.000110,test
fay,i1,1,1970-01-01T00:00:00.000001,train
fay,i2,2,1970-01-01T00:00:00.000002,train
fay,i3,3,1970-01-01T00:00:00.000003,train
fay,i1,101,1970-01-01T00:00:00.000101,test
"""
USERS = "user,job\nann,cook\nbob,cook\ncat,nurse\neve,nurse\nfay,clerk\n"
SPEC = {
    "name": "sides",
    "interactions": {"file": "log.csv", "user": "user", "item": "item", "time": "time"},
    "users": {"file": "users.csv", "id": "user", "features": [{"name": "job"}]},
}
BY_PERIOD = {"test_period": {"column": "phase", "one_of": ["test"]}}


def _record(user, segment, history, target, job):
    return {
        "user_id": [user],
        "segment": [segment],
        "history": [item for item, _ in history],
        "history_time": [time for _, time in history],
        "target": [item for item, _ in target],
        "target_time": [time for _, time in target],
        "job": [job],
    }


TRAIN = [
    _record(b"ann", b"warm", [(b"i1", 10), (b"i2", 20)], [(b"i3", 30)], b"cook"),
    _record(b"bob", b"warm", [(b"i1", 40)], [(b"i2", 50)], b"cook"),
]
VAL = [_record(b"fay", b"warm", [(b"i1", 1), (b"i2", 2)], [(b"i3", 3)], b"clerk")]
CAT = _record(b"cat", b"cold", [], [(b"i1", 105)], b"nurse")
TEST = [
    _record(b"ann", b"warm", [(b"i2", 20), (b"i3", 30)], [(b"i4", 100)], b"cook"),
    _record(b"fay", b"warm", [(b"i2", 2), (b"i3", 3)], [(b"i1", 101)], b"clerk"),
    CAT,
]


def _write(folder, **interactions):
    (folder / "log.csv").write_text(LOG)
    (folder / "users.csv").write_text(USERS)
    spec = {**SPEC, "interactions": {**SPEC["interactions"], **interactions}}
    path = folder / "sides.yaml"
    path.write_text(yaml.safe_dump(spec))
    return load_spec(path)


def _run(spec, folder, data=DATA, expected=None, span=1 << 20):
    """Builds and checks the records, compares them, and returns the counters."""
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        splits = pipeline | UserRecords(spec, folder, data, span) | CheckRecords(data)
        for split, records in (expected or {}).items():
            assert_that(splits[split], equal_to(records), label=split)
    return counters.read(pipeline.result)


EXPECTED = {"train": TRAIN, "val": VAL, "test": TEST}


def test_records_on_both_sides_of_a_time(tmp_path):
    counts = _run(_write(tmp_path), tmp_path, expected=EXPECTED, span=17)
    assert counts == {
        "events": 16,
        "events_later": 7,
        "split_time": 100,
        "users_train_warm": 2,
        "users_val_warm": 1,
        "users_test_warm": 2,
        "users_test_cold": 1,
        "users_with_few_events": 1,
        "users_without_events": 1,
        "valued_job": 2,
    }
    line = summary(counts)
    assert "1 with too few events before T and 1 without any; " in line
    assert "; 7 of 16 events at T or later, T = 100" in line


FORMS = {
    "a column marks the period": (BY_PERIOD, {"split_time": ""}),
    # Nine of sixteen events lie before T, which is the time of the tenth.
    "the share of the events": ({}, {"split_time": "", "test_share": 7 / 16}),
    "a date": ({"time": "date"}, {"split_time": "1970-01-01 00:00:00.0001"}),
    "a time overrules the column": (BY_PERIOD, {"split_time": "100"}),
    "duplicates": ({"drop_duplicates": True, **BY_PERIOD}, {"split_time": ""}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_t_gives_the_same_records(tmp_path, form):
    interactions, settings = FORMS[form]
    data = dataclasses.replace(DATA, **settings)
    counts = _run(_write(tmp_path, **interactions), tmp_path, data, EXPECTED)
    assert ("split_time" in counts) == bool(data.split_time or not interactions)


def test_target_all_ends_with_the_first_item(tmp_path):
    data = dataclasses.replace(DATA, target="all")
    cat = {**CAT, "target": [b"i9", b"i1"], "target_time": [110, 105]}
    _run(_write(tmp_path), tmp_path, data, {"test": [*TEST[:2], cat]})


def test_lists_for_current_users_do_not_depend_on_t(tmp_path):
    spec = _write(tmp_path, **BY_PERIOD)
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        users = pipeline | CurrentUsers(spec, tmp_path, DATA)
        histories = users | beam.Map(lambda user: (user["user_id"][0], user["history"]))
        newest = {b"ann": [b"i4", b"i5"], b"bob": [b"i1", b"i2"], b"cat": [b"i9", b"i9"]}
        newest |= {b"dan": [b"i1", b"i2"], b"eve": [], b"fay": [b"i3", b"i1"]}
        assert_that(histories, equal_to(list(newest.items())))


def _target_after_t(user_id, events, features, data, later=()):
    """The last event before T is not the target, but the first one after it."""
    built = record.build_records(user_id, events, features, data, later)
    return [(s, {**r, "target": [later[0][1]]} if later else r) for s, r in built]


def _history_after_t(user_id, events, features, data, later=()):
    """The history of test users runs on after T."""
    return record.build_records(user_id, [*events, *later], features, data, later)


def _trained_on_newcomers(user_id, events, features, data, later=()):
    """Features of newcomers reach the train split."""
    built = record.build_records(user_id, events, features, data, later)
    return [("train" if r["segment"] == [b"cold"] else split, r) for split, r in built]


def _in_train_and_val(user_id, events, features, data, later=()):
    """Users who select the model are trained on, too."""
    built = record.build_records(user_id, events, features, data, later)
    return [*built, *(("val", r) for split, r in built if split == "train")]


def _tested_on_the_past(user_id, events, features, data, later=()):
    """The target of test is the last item before T, which the model was trained on."""
    built = record.build_records(user_id, events, features, data, later)
    return [
        (s, {**r, "target": [events[-1][1]]} if s == "test" and events else r) for s, r in built
    ]


PLANTED = {
    _target_after_t: "with events of the other side of T",
    _history_after_t: "with events of the other side of T",
    _trained_on_newcomers: "a cold user in split 'train'|the other side of T",
    _in_train_and_val: "a user with 2 records",
    _tested_on_the_past: "with events of the other side of T",
}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_a_planted_leak_stops_the_run(tmp_path, monkeypatch, planted):
    monkeypatch.setattr(user_records, "build_records", planted)
    # Beam's own error repeats the text of ours.
    with pytest.raises(RuntimeError, match=f"InputError: .*({PLANTED[planted]})") as error:
        _run(_write(tmp_path), tmp_path)
    assert not {"ann", "bob", "cat", "fay"} & set(str(error.value).split())


def test_times_of_the_other_side_are_a_leak_too():
    before, later = [(1, b"a"), (2, b"b"), (3, b"c")], [(9, b"d")]
    ann = _record(b"ann", b"warm", [(b"a", 1), (b"b", 2)], [(b"c", 3)], b"cook")
    check_sides("train", ann, before, later)
    planted = [{"history_time": [1, 9]}, {"history_time": [1, 2, 9]}]
    for fields in (*planted, {"target_time": [9]}, {"target_time": []}):
        with pytest.raises(InputError, match="other side"):
            check_sides("train", {**ann, **fields}, before, later)


@pytest.mark.parametrize("seed", range(5))
def test_oldest_events_do_not_depend_on_order_or_merging(seed):
    rng = random.Random(seed)
    events = [(rng.randrange(-3, 3), (0, row), b"i%d" % rng.randrange(9)) for row in range(40)]
    oldest = [(time, item) for time, _, item in sorted(events)[:7]]
    rng.shuffle(events)
    combine = OldestEvents(7)
    accumulators = [combine.create_accumulator() for _ in range(5)]
    for event in events:
        at = rng.randrange(5)
        accumulators[at] = combine.add_input(accumulators[at], event)
    merged = combine.merge_accumulators(accumulators)
    assert combine.extract_output(merged) == (40, oldest)
    assert isinstance(combine, NewestEvents)


def _time_of_share(times, share):
    """Finds the time as `TimeOfShare` does, in two batches and without Beam."""
    state = (0, None)
    for digits in range(4):
        halves = (split_time._unsigned(times[::2]), split_time._unsigned(times[1::2]))
        counts = sum(split_time._count(half, digits, state) for half in halves)
        state = split_time._next(None, state, counts, share)
    return state[0] - (1 << 63)


@pytest.mark.parametrize("seed", range(20))
def test_the_time_of_a_share_is_that_of_the_sorted_events(seed):
    rng = np.random.default_rng(seed)
    low, high = [(-5, 5), (0, 1 << 40), (-(1 << 63), (1 << 63) - 1)][seed % 3]
    times = rng.integers(low, high, int(rng.integers(1, 300)), endpoint=True)
    share = float(rng.uniform(0.01, 0.99))
    expected = np.sort(times)[min(int((1 - share) * len(times)), len(times) - 1)]
    assert _time_of_share(times.tolist(), share) == expected
    assert (times < expected).sum() <= (1 - share) * len(times)


@pytest.mark.parametrize(
    ("interactions", "text", "fault"),
    [
        ({}, "soon", "column 'time' must be an integer"),
        ({}, "2022-04-25", "column 'time' must be an integer"),
        ({"time": "date"}, "100", "must be a time of ISO 8601"),
    ],
)
def test_a_time_of_another_form_is_an_error_before_the_run(tmp_path, interactions, text, fault):
    spec, data = _write(tmp_path, **interactions), dataclasses.replace(DATA, split_time=text)
    with pytest.raises(InputError, match=f"data.split_time='{text}': .*{fault}"):
        check(spec, tmp_path, data)


def test_a_missing_column_of_the_period_is_an_error_before_the_run(tmp_path):
    spec = _write(tmp_path, test_period={"column": "epoch", "one_of": ["x"]})
    with pytest.raises(InputError, match="column 'epoch' of .*log.csv"):
        check(spec, tmp_path)


@pytest.mark.parametrize(("time", "without"), [("1000", "'test'"), ("0", "'train'")])
def test_a_time_with_all_events_on_one_side_is_an_error(tmp_path, time, without):
    spec, data = _write(tmp_path), dataclasses.replace(DATA, split_time=time)
    counts = _run(spec, tmp_path, data)
    with pytest.raises(InputError) as error:
        check_population(counts, spec, data)
    assert without in str(error.value) and f"T = {time}" in str(error.value)
    assert "data.split_time" in error.value.fix


def test_rows_without_a_time_may_come_first(tmp_path):
    """The time of the rows without one says what times look like, if no other row does."""
    spec = _write(tmp_path, time="date", missing_time="1970-01-01")
    rows = "".join(f"gil,i{number % 9},,,\n" for number in range(first_rows.MOST_ROWS))
    (tmp_path / "log.csv").write_text(LOG.replace("\n", f"\n{rows}", 1))
    data = dataclasses.replace(DATA, split_time="1970-01-01T00:00:00.0001")
    check(spec, tmp_path, data)
    assert first_rows.split_time(spec, tmp_path, data) == 100

"""User records of datasets in their published layouts, compared with a plain loop."""

import datetime

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.config import DataConfig
from pipeline.datasets import check, load_spec
from pipeline.transforms import counters
from pipeline.transforms.split import assign_split
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.published_layouts import write_kuairec, write_ta_feng, write_xing
from tests.pipeline.test_transforms import _pipeline

DATA = DataConfig(max_history=5, min_events=3)


def _histories(events):
    """`{user: (segment, history, its times, target)}` of `[(user, item, time)]` in file order."""
    logs = {}
    for number, (user, item, time) in enumerate(dict.fromkeys(events)):
        logs.setdefault(str(user).encode(), []).append((time, number, str(item).encode()))
    histories = {}
    for user, log in logs.items():
        if len(log) >= DATA.min_events:
            *before, last = sorted(log)
            segment = assign_split(user, DATA)[1]
            before = [] if segment == "cold" else before[-DATA.max_history :]
            items, times = [item for *_, item in before], [time for time, *_ in before]
            histories[user] = segment.encode(), items, times, last[2]
    return histories


def _summary(record):
    names = ("segment", "history", "history_time", "target")
    segment, history, times, target = (record[name] for name in names)
    return record["user_id"][0], (segment[0], history, times, target[0])


def _run(name, folder, expected, profiles_of_some):
    """Checks all records, and the user features of some users; returns the counters."""
    spec = load_spec(name)
    check(spec, folder)
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(spec, folder, DATA, span=997)
        records = tuple(splits.values()) | beam.Flatten()
        assert_that(records | beam.Map(_summary), equal_to(list(expected.items())), label="records")
        profiles = records | "Profiles" >> beam.FlatMap(
            lambda record: [
                (user, {name: record[name] for name in of_user})
                for user, of_user in profiles_of_some.items()
                if record["user_id"] == [user]
            ]
        )
        assert_that(profiles, equal_to(list(profiles_of_some.items())), label="profiles")
    return counters.read(pipeline.result)


def test_kuairec(tmp_path):
    rows = write_kuairec(tmp_path)
    watched = [row for row in rows if row[3] >= 2]
    timed = [(user, video, at) for user, video, at, _ in watched if at]
    expected = _histories((user, video, round(at * 1000)) for user, video, at in timed)
    profiles_of_some = {
        b"3": {"user_active_degree": [], "is_video_author": [b"1"]},
        b"4": {
            "follow_user_num_range": [b"(0,10]"],
            "is_live_streamer": [],
            "register_days": [111.0],
        },
    }
    counts = _run("kuairec", tmp_path, expected, profiles_of_some)
    assert {segment for segment, *_ in expected.values()} == {b"warm", b"cold"}
    assert counts[counters.NOT_KEPT] == len(rows) - len(watched) > 100
    assert counts[counters.WITHOUT_TIME] == len(watched) - len(timed) > 20
    assert counts[counters.DUPLICATES] == len(timed) - len(set(timed)) > 20
    assert any(ratio == 2.0 for *_, ratio in watched)


@pytest.mark.parametrize("prefixed", [False, True])
def test_xing(tmp_path, prefixed):
    rows = write_xing(tmp_path, prefixed)
    positive = [(user, item, at) for user, item, kind, at in rows if kind in (1, 2, 3)]
    profiles_of_some = {
        b"5": {"jobroles": []},
        b"6": {"jobroles": [b"7", b"22"], "edu_fieldofstudies": [b"3", b"5"], "wtcj": [b"0"]},
        b"7": {"career_level": [], "edu_fieldofstudies": []},
    }
    counts = _run("xing", tmp_path, _histories(positive), profiles_of_some)
    assert counts[counters.NOT_KEPT] == len(rows) - len(positive) > 100
    assert counts[counters.DUPLICATES] == len(positive) - len(set(positive)) > 20


def test_ta_feng(tmp_path):
    """One file is both tables: the features of a customer stand in every row."""
    rows = write_ta_feng(tmp_path)
    since = datetime.date(1970, 1, 1)
    events = [(user, item, (day - since).days * 86_400_000_000) for user, item, day in rows]
    expected = _histories(events)
    profiles_of_some = {
        b"00000004": {"age": [b"25-29"], "area": [b"221"]},
        b"00000005": {"age": [b">65"], "area": []},
        b"00000007": {"age": [], "area": [b"221"]},
    }
    assert profiles_of_some.keys() <= expected.keys()
    counts = _run("ta-feng", tmp_path, expected, profiles_of_some)
    assert {segment for segment, *_ in expected.values()} == {b"warm", b"cold"}
    assert counts[counters.EVENTS] == len(rows) and not counts.get(counters.WITHOUT_FEATURES)
    # Some customers buy an item again, which is an event as any other.
    assert any(len({*items}) < len(items) for _, items, *_ in expected.values())

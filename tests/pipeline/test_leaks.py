"""A leak that someone plants into the code stops the run, whatever it is."""

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.datasets import load_spec
from pipeline.transforms import record, user_records
from tests.pipeline.fixtures import write_clusters
from tests.pipeline.test_example_gen import component  # noqa: F401

pytestmark = pytest.mark.pipeline
DATA = DataConfig(max_history=6)


def _with_history(user_id, events, features, data):
    """Cold users keep their histories, hidden by the segment alone."""
    split, segment = record.draw(user_id, data)
    found = record._warm_record(user_id, events, features, data)
    return [(split, {**found, "segment": [segment.encode()]})]


def _with_times(user_id, events, features, data):
    """The items are removed, and the times are forgotten."""
    split, found = record.build_record(user_id, events, features, data)
    return [(split, {**found, "history_time": [time for time, _ in events]})]


def _trained_on(user_id, events, features, data):
    """Cold users' features reach the train split."""
    split, found = record.build_record(user_id, events, features, data)
    return [("train" if found["segment"] == [b"cold"] else split, found)]


def _in_two_segments(user_id, events, features, data):
    """Cold users are warm ones, too, and so in two segments."""
    warm = record._warm_record(user_id, events, features, data)
    split, found = record.build_record(user_id, events, features, data)
    return [(split, found), *([("train", warm)] if found["segment"] == [b"cold"] else [])]


PLANTED = {
    "history": (_with_history, "a cold user of split 'test' with . values in 'history'"),
    "times": (_with_times, "in 'history_time': what was removed must be gone"),
    "trained on": (_trained_on, "a cold user in split 'train'"),
    "two segments": (_in_two_segments, "a user with 2 records: a user must be in one split"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_leak_stops_the_run(component, tmp_path, monkeypatch, planted):  # noqa: F811
    spec = load_spec(write_clusters(tmp_path / "raw"))
    build, said = PLANTED[planted]
    monkeypatch.setattr(user_records, "build_records", build)
    with pytest.raises(InputError, match=said) as error:
        component(spec, tmp_path / "raw", DATA)
    assert not [user for user in range(240) if f"u{user}" in str(error.value).split()]

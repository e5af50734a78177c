"""Leaks planted into the code that builds records stop the run."""

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.datasets import load_spec
from pipeline.transforms import record, user_records
from tests.pipeline.test_example_gen import component  # noqa: F401
from tests.pipeline.toy_datasets import write_clusters

pytestmark = pytest.mark.pipeline
DATA = DataConfig(max_history=6)


def _with_history(user_id, events, features, data, later=()):
    """Cold users keep their histories; only the segment hides them."""
    split, segment = record.assign_split(user_id, data)
    warm = record._warm_record(user_id, events, features, data)
    return [(split, {**warm, "segment": [segment.encode()]})]


def _with_times(user_id, events, features, data, later=()):
    """The items are removed, but the times are not."""
    split, built = record.build_record(user_id, events, features, data)
    return [(split, {**built, "history_time": [time for time, _ in events]})]


def _trained_on(user_id, events, features, data, later=()):
    """Features of cold users reach the train split."""
    split, built = record.build_record(user_id, events, features, data)
    return [("train" if built["segment"] == [b"cold"] else split, built)]


def _in_two_segments(user_id, events, features, data, later=()):
    """Cold users are warm users too, so they are in two segments."""
    warm = record._warm_record(user_id, events, features, data)
    split, built = record.build_record(user_id, events, features, data)
    return [(split, built), *([("train", warm)] if built["segment"] == [b"cold"] else [])]


PLANTED = {
    "history": (_with_history, "a cold user of split 'test' with . values in 'history'"),
    "times": (_with_times, "in 'history_time': what was removed must be gone"),
    "trained on": (_trained_on, "a cold user in split 'train'"),
    "two segments": (_in_two_segments, "a user with 2 records: a user must be in one split"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_leak_stops_the_run(component, tmp_path, monkeypatch, planted):  # noqa: F811
    spec = load_spec(write_clusters(tmp_path / "raw"))
    build, message = PLANTED[planted]
    monkeypatch.setattr(user_records, "build_records", build)
    with pytest.raises(InputError, match=message) as error:
        component(spec, tmp_path / "raw", DATA)
    assert not [user for user in range(240) if f"u{user}" in str(error.value).split()]

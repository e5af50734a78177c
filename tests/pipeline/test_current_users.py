"""Records of all current users: no user is left out, and no item is held out."""

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.config import DataConfig
from pipeline.components.population import users_by_segment
from pipeline.datasets import load_spec
from pipeline.transforms import counters
from pipeline.transforms.user_records import CurrentUsers
from tests.pipeline.toy_datasets import TWELVE_SALT, write_twelve

DATA = DataConfig(max_history=2, min_events=2, salt=TWELVE_SALT)


def _user(name, history, times, age, job, tags):
    return {
        "user_id": [name],
        "segment": [b"warm" if history else b"cold"],
        "history": history,
        "history_time": times,
        "target": [],
        "target_time": [],
        "age": age,
        "job": job,
        "tags": tags,
    }


RECORDS = [
    _user(b"ann", [b"i4", b"i3"], [20, 30], [23.5], [b"nurse"], [b"b"]),
    # Cold in the test split; here with a history, like all users.
    _user(b"bob", [b"b9", b"i5"], [12, 12], [41.0], [b"cook, head"], [b"a", b"b"]),
    _user(b"cat", [b"i4", b"i1"], [7, 8], [], [], []),
    # One event is too few to train on.
    _user(b"dan", [b"i9"], [1], [18.0], [b"cook"], []),
    _user(b"eve", [], [], [99.0], [b"cook"], [b"a"]),
    _user(b"fay", [b"i2", b"i1"], [5, 6], [], [b"clerk"], []),
]


def test_every_user_has_a_record_with_all_events(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    # The default runner would first look for another runner on the network.
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        assert_that(pipeline | CurrentUsers(spec, tmp_path, DATA), equal_to(RECORDS))
    counts = counters.read(pipeline.result)
    assert users_by_segment(counts) == {"warm": 5, "cold": 1}
    assert counts["users_without_features"] == 1

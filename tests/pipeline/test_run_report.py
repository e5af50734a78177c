"""How the values of a user and the metrics are printed."""

import shlex
import types

import numpy as np
import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.schema import Feature
from pipeline.commands.run_report import printable, quality, segments, texts
from pipeline.evaluation.slices import Slice
from pipeline.storage.records import profile

FEATURES = (Feature("age", "numeric"), Feature("job"), Feature("tags", "multi"), Feature("zip"))


def test_a_profile_keeps_bytes_that_are_not_utf8():
    user = {"age": [2.5], "job": [b"\xff"], "tags": [b"a", b"\xfe"], "zip": [], "user_id": [b"x"]}
    known = profile(user, FEATURES)
    assert known == {"age": 2.5, "job": "\udcff", "tags": ["a", "\udcfe"]}
    assert profile({"job": [b"\xfe"]}, FEATURES) != profile({"job": [b"\xff"]}, FEATURES)
    # A terminal could not take the surrogates.
    assert texts(known["tags"]) == ["a", "\ufffd"] and texts(known["job"]) == ["\ufffd"]
    assert printable("K\u00f6ln") == "K\u00f6ln"


@pytest.mark.parametrize(
    ("value", "text"),
    [(23.0, "23"), (1234567.0, "1234567"), (float(np.float32(23.4)), "23.4"), (-0.5, "-0.5")],
)
def test_numbers_keep_their_digits(value, text):
    assert texts(value) == [text]
    assert np.float32(texts(value)[0]) == np.float32(value)
    assert shlex.quote(text) == text


def test_the_segment_table_shows_popularity_and_warnings():
    row = {"users": 40.0, "repeats": 3.0, "recall@20": 0.2, "ndcg@20": 0.1, "coverage@20": 30.0}
    run = types.SimpleNamespace(
        config=Config(),
        rows={"warm": row},
        floors={"popularity-last": {"warm": {**row, "ndcg@20": 0.15}}},
        warnings=["warm users are served below popularity"],
    )
    first, users, _, _, model, floor, warning, repeats = segments(run).split("\n")
    assert (first, users) == ("", "Test users: 40 warm")
    assert model.split()[:4] == ["CMCLRec", "0.2000", "0.1000", "30"]
    assert " ".join(floor.split()).startswith("popularity, last events 0.2000 0.1500 30")
    assert warning == "Warning: warm users are served below popularity"
    assert repeats.startswith("3 of 40 warm users have their target in their history")


def test_quality_by_segment_and_slice_with_intervals():
    means = {"recall@20": 0.2, "ndcg@20": 0.1, "recall@20_error": 0.02, "ndcg@20_error": 0.01}
    row = {**means, "users": 40.0}
    one = {**row, "users": 1.0, "recall@20_error": np.nan, "ndcg@20_error": np.nan}
    run = types.SimpleNamespace(
        config=Config(), rows={"cold": row}, slices=[Slice("job", "cook", "cold", one)]
    )
    _, _, head, cold, cook = quality(run).split("\n")
    assert head.split() == ["users", "recall@20", "ndcg@20"]
    assert " ".join(cold.split()) == "cold 40 0.2000 (0.1608 to 0.2392) 0.1000 (0.0804 to 0.1196)"
    assert " ".join(cook.split()) == "job=cook, cold 1 0.2000 0.1000"

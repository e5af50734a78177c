"""What of a user is printed, and what goes to the server."""

import shlex

import numpy as np
import pytest

from cmclrec_tf.schema import Feature
from pipeline.records import profile
from pipeline.report import printable, texts

FEATURES = (Feature("age", "numeric"), Feature("job"), Feature("tags", "multi"), Feature("zip"))


def test_a_profile_keeps_bytes_that_are_no_text():
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

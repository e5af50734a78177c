"""Tests `recommend_many`: users with a history, user features, both or nothing in one call."""

import grpc
import numpy as np
import pytest

from cmclrec_tf.errors import InputError

Code = grpc.StatusCode


USERS = [
    {"history": ["a", "b"]},
    {"gender": "d", "genres": ["c", "e"], "age": 0.5},
    {"history": ["d"], "gender": "a"},
    {},
    {"history": ["a"], "age": None, "gender": "", "genres": []},
    {"history": [], "gender": "c"},
    {"history": ("a", "b"), "age": 1, "exclude": ["c", "d"]},
    {"history": None, "exclude": ["a"]},
    {"history": np.array(["c"], object), "exclude": {"d"}},
]
# Signature, is_cold, items and scores, computed by hand from tests/serving/conftest.py.
EXPECTED = [
    ("warm", False, "cde", (13.0, 2.0, 1.0)),
    ("cold", True, "dce", (22.0, 13.0, 11.5)),
    ("serving_default", False, "eab", (11.0, 5.0, 4.0)),
    ("cold", True, "abc", (5.0, 4.0, 3.0)),
    ("warm", False, "bcd", (14.0, 3.0, 2.0)),
    ("cold", True, "cab", (23.0, 5.0, 4.0)),
    ("serving_default", False, "e", (1.0,)),
    ("cold", True, "bcd", (4.0, 3.0, 2.0)),
    ("warm", False, "abe", (5.0, 4.0, 1.0)),
]


def test_recommend_many(client):
    answers = client.recommend_many(USERS)
    lists = [(a.signature, a.is_cold, "".join(a.item_ids), a.scores) for a in answers]
    assert lists == EXPECTED
    assert {answer.version for answer in answers} == {12}
    assert [client.recommend(user) for user in USERS] == answers
    assert [a.item_ids for a in client.recommend_many(USERS, k=1)] == [
        (items[0],) for _, _, items, _ in EXPECTED
    ]
    assert client.recommend_many([]) == []


def test_the_model_decides_about_a_record(client):
    """The client sends the history as it is; the model decides whether it counts as one."""
    (answer,) = client.recommend_many([{"history": ["", "zzz"], "gender": "b"}])
    assert (answer.signature, answer.is_cold, answer.version) == ("serving_default", False, 12)


def test_histories_alone_need_no_metadata(client):
    client.recommend_many([{"history": ["a"]}, {"history": ["b"], "exclude": ["c"]}])
    assert client._kinds is None


@pytest.mark.parametrize(
    ("user", "texts"),
    [
        ({"history": ["a"], "age": "secret"}, ["user feature 'age' of user 8"]),
        ({"history": "secret"}, ["history of user 8", "list of item ids"]),
        ({"history": 5}, ["history of user 8", "list of item ids"]),
        ({"exclude": [["secret"]]}, ["exclude of user 8", "text or a number"]),
        ({"history": ["a", "secret\ud800"]}, ["history of user 8", "lone surrogate"]),
        ({"height": 1}, ["'height' of user 8"]),
        (["secret"], ["user 8 (a list)", "mapping"]),
    ],
)
def test_wrong_users(client, user, texts):
    with pytest.raises(InputError) as caught:
        client.recommend_many([{}, user], first=7)
    for text in texts:
        assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_similar_histories_go_together():
    """Batches have little padding, and every user is in one of them."""
    from serving.client import users

    lengths = [1 + (i * 37) % 300 for i in range(700)]
    batches = users.batches([users.User("warm", [b"x"] * length) for length in lengths])
    assert sorted(place for batch in batches for place in batch.places) == list(range(700))
    assert [len(batch.places) for batch in batches] == [256, 256, 188]
    sent = sum(batch.inputs({})["history"].size for batch in batches)
    assert sent < 1.45 * sum(lengths)
    wide = users.batches([users.User("warm", [b"x"] * 2**19) for _ in range(5)])
    assert [len(batch.places) for batch in wide] == [2, 2, 1]


def test_records_hold_the_features_that_are_present(example):
    from tensorflow.core.example import example_pb2

    from serving.client import users

    kinds = {"gender": "categorical", "genres": "multi", "age": "numeric", "place": 2}

    def record(mapping):
        (user,) = users.from_mappings([mapping])
        return example_pb2.Example.FromString(users.record(user.resolved(kinds), kinds))

    features = {"gender": "Ж", "genres": ["a", ""], "age": 0, "place": [1, 2]}
    expected = example(history=["x", "y"], gender=["Ж"], genres=["a"], age=[0.0], place=[1.0, 2.0])
    assert record({"history": ["x", "y"], **features}) == example_pb2.Example.FromString(expected)
    sparse = record({"history": ["x"], "place": [1, 2], "age": None})
    assert set(sparse.features.feature) == {"history", "place"}

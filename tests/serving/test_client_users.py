"""Tests `recommend_many`: users with a history, user features, both or nothing in one call."""

import asyncio

import grpc
import numpy as np
import pytest

from cmclrec_tf.errors import InputError
from serving.client import AsyncClient, Client, ServingError
from tests.serving.scripted import CALLERS, Script, playing

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
    # The tiny model has no output `known_items`.
    assert {(a.signature, a.known_items, a.source) for a in answers} == {
        ("warm", None, None),
        ("cold", 0, "features"),
        ("serving_default", None, "history"),
    }
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


BAD_USERS = [
    {"history": ["a"]},
    {"gender": ["secret"]},
    {"history": ["b", "x" * 70_000]},  # the server refuses it
    ["secret"],
    {"gender": "c"},
    {"history": [["secret"]]},
    {"height": 1},
    {"history": ["d"], "age": 1, "gender": "secret" * 12_000_000},  # no message is that long
    {"history": ["d"], "age": 1},
    InputError("line 9", "it cannot be read", "Correct it."),
]
REASONS = {
    1: "user feature 'gender' of user 1 (a list)",
    2: "a string of 70000 bytes",
    3: "user 3 (a list)",
    5: "history of user 5 (a list)",
    6: "user feature 'height' of user 6",
    7: "RESOURCE_EXHAUSTED",
    9: "line 9: it cannot be read",
}


def test_recommend_each(client, target):
    answers = client.recommend_each(BAD_USERS, k=1)
    lists = {place: a.item_ids for place, a in enumerate(answers) if place not in REASONS}
    assert lists == {0: ("b",), 4: ("c",), 8: ("e",)}
    for place, reason in REASONS.items():
        assert isinstance(answers[place], (InputError, ServingError))
        assert reason in str(answers[place]) and "secret" not in str(answers[place])

    async def ask():
        async with AsyncClient(target, timeout=30.0) as other:
            return await other.recommend_each(BAD_USERS, k=1)

    assert list(map(str, asyncio.run(ask()))) == list(map(str, answers))
    assert client.recommend_each([]) == []
    with pytest.raises(InputError, match="k=0"):
        client.recommend_each([{}], k=0)


def test_recommend_each_fails_without_a_server():
    with (
        Client("127.0.0.1:1", wait_for_ready=False) as client,
        pytest.raises(ServingError, match="UNAVAILABLE"),
    ):
        client.recommend_each([{"history": ["a"]}, {"history": 5}])


@pytest.mark.parametrize(
    ("user", "refused"),
    [
        ({"history": ["a"]}, {"history": ["x" * 70_000]}),
        ({"gender": "a"}, {"gender": "x" * 70_000}),
    ],
)
def test_one_refused_user_costs_few_requests(target, user, refused):
    """The client halves a refused request, and asks once whether another model is served."""
    people = [user] * 1000
    people[700] = refused
    with Client(target, timeout=30.0) as client:
        calls = []
        send = client._send
        client._send = lambda call: [calls.append(call.name), send(call)][1]
        answers = client.recommend_each(people)
    assert [place for place, a in enumerate(answers) if isinstance(a, ServingError)] == [700]
    assert len(calls) < 40 and calls.count("metadata") <= 2


@pytest.mark.parametrize("call", CALLERS)
def test_a_server_without_memory_is_not_asked_for_each_user(call):
    script = Script(failures=10**6, code=Code.RESOURCE_EXHAUSTED)
    with playing(script) as target:
        (error,) = call(target, [lambda client: client.recommend_each([{"history": ["a"]}] * 256)])
    assert isinstance(error, ServingError) and error.code == Code.RESOURCE_EXHAUSTED
    assert script.seen == 9


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
    long = users.batches([users.User("warm", [b"x" * 2**22]) for _ in range(6)])
    assert [len(batch.places) for batch in long] == [4, 2]


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

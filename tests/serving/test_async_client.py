"""Tests `AsyncClient`: the answers and errors of `Client`, with several requests at once."""

import asyncio
import socket
import time

import grpc
import pytest

from cmclrec_tf.errors import InputError
from serving.client import ROWS, AsyncClient, ServingError
from tests.serving.scripted import Script, playing


def result_of(target, ask, **options):
    """Returns what a coroutine function of a client returns."""

    async def main():
        async with AsyncClient(target, **options) as client:
            return await ask(client)

    return asyncio.run(main())


USERS = [
    {"history": ["a", "b"]},
    {"gender": "d", "age": 0.5},
    {"history": ["d"], "gender": "a", "exclude": ["e"]},
    {},
]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.warm([["a", "b"], []], exclude=[["c"], ["a"]], k=2),
        lambda client: client.cold([{"gender": "c"}, {"genres": ["b"], "age": 3}, {}]),
        lambda client: client.recommend_many(USERS),
        lambda client: client.recommend(USERS[2], 1),
        lambda client: client.recommend_many([]),
        lambda client: client.simulated_history(USERS[1]),
        lambda client: client.features(),
        lambda client: client.status(),
        lambda client: client.metadata(),
    ],
)
def test_same_answers(client, target, ask):
    result = result_of(target, ask, timeout=30.0)
    expected = ask(client)
    assert result == expected
    if not isinstance(expected, dict):
        assert repr(result) == repr(expected)  # compares the fields that equality ignores too


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.warm([["a"], [["b"]]]),
        lambda client: client.cold([{"age": "secret"}]),
        lambda client: client.recommend_many([{"history": ["a"], "height": "secret"}]),
        lambda client: client.recommend({}, k=0),
    ],
)
def test_same_errors(client, target, ask):
    with pytest.raises(InputError) as expected:
        ask(client)
    with pytest.raises(InputError) as caught:
        result_of(target, ask)
    assert str(caught.value) == str(expected.value)
    assert "secret" not in str(caught.value)


def test_answers_in_the_order_of_the_users(target):
    users = [{"history": ["abcd"[i % 4]] * (1 + i % 50)} for i in range(3 * ROWS + 5)]
    users[7] = {"gender": "c"}
    answers = result_of(target, lambda client: client.recommend_many(users, k=1), timeout=30.0)
    expected = ["bcde"[i % 4] for i in range(len(users))]
    expected[7] = "c"
    assert [answer.item_ids[0] for answer in answers] == expected


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_at_once(concurrency):
    script = Script(seconds=0.05)
    with playing(script) as target:
        answers = result_of(
            target,
            lambda client: client.warm([["a"]] * (5 * ROWS + 1)),
            concurrency=concurrency,
        )
    assert len(answers) == 5 * ROWS + 1
    assert script.seen == 6 and script.most == concurrency


def test_one_request_that_fails_ends_the_call():
    script = Script(failures=1, code=grpc.StatusCode.INTERNAL, seconds=0.05)
    with playing(script) as target, pytest.raises(ServingError) as caught:
        result_of(target, lambda client: client.warm([["a"]] * (20 * ROWS)), concurrency=2)
    assert caught.value.code == grpc.StatusCode.INTERNAL
    assert script.seen < 10


def test_tasks_share_a_client(target):
    async def ask(client):
        return await asyncio.gather(*(client.warm([[item]], k=1) for item in "abcd" * 10))

    result = result_of(target, ask, timeout=30.0)
    assert [answer.item_ids[0] for (answer,) in result] == list("bcde" * 10)


def test_a_cancelled_call():
    script = Script(seconds=0.5)

    async def ask(client):
        await asyncio.wait_for(client.status(), 0.1)

    with playing(script) as target, pytest.raises(asyncio.TimeoutError):
        started = time.monotonic()
        try:
            result_of(target, ask)
        finally:
            assert time.monotonic() - started < 0.4
    assert script.seen == 1


def test_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServingError) as caught:
        result_of(f"127.0.0.1:{port}", lambda client: client.warm([["a"]]), timeout=0.5)
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert f"127.0.0.1:{port}: warm failed, UNAVAILABLE" in str(caught.value)


def test_an_unused_client_and_a_wrong_option():
    asyncio.run(AsyncClient().close())
    with pytest.raises(InputError, match="concurrency=0"):
        AsyncClient(concurrency=0)

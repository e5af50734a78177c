"""Tests a local server with calls that outlast their callers, send nothing, or come in numbers."""

import contextlib
import queue
import threading
import time

import grpc
import pytest

from serving.client import Client
from serving.server import grpc_server
from serving.server.limits import Limits
from tests.serving.eventually import eventually
from tests.serving.raw_requests import BODY, METHOD, ask, channel_of, connect, head, serving
from tests.serving.test_local_server import warm_request


class SlowModel:
    """Stands in for a model that computes until it is released; counts its runs."""

    def __init__(self, server, monkeypatch):
        self.runs, self.release = 0, threading.Event()
        with server._catalog.lease(warm_request().model_spec) as servable:
            run = servable.session.run
            monkeypatch.setattr(servable.session, "run", self._slow(run))

    def _slow(self, run):
        def slow(*arguments):
            self.runs += 1
            self.release.wait(30)
            return run(*arguments)

        return slow


def test_the_deadline_includes_the_model(base_path, monkeypatch):
    with serving(base_path, rest_api_timeout_in_ms=500) as server:
        model = SlowModel(server, monkeypatch)
        start = time.monotonic()
        status, answer = ask(server)
        assert status == 504 and "deadline" in answer["error"]
        assert 0.4 < time.monotonic() - start < 5
        model.release.set()
        eventually(lambda: ask(server)[0] == 200)


def test_the_request_of_a_closed_connection_is_not_run(base_path, monkeypatch):
    with serving(base_path, grpc_max_threads=1) as server:
        model = SlowModel(server, monkeypatch)
        first = connect(server, head(len(BODY)) + BODY)
        eventually(lambda: model.runs == 1)
        # With one thread, these wait for their turn.
        second = connect(server, head(len(BODY)) + BODY)
        time.sleep(0.3)
        second.close()
        time.sleep(0.3)
        model.release.set()
        assert first.recv(4096).startswith(b"HTTP/1.1 200")
        first.close()
        assert ask(server)[0] == 200
        assert model.runs == 2


def test_a_cancelled_call_is_not_run(base_path, monkeypatch):
    with serving(base_path, grpc_max_threads=1) as server, channel_of(server) as channel:
        model = SlowModel(server, monkeypatch)
        predict = channel.unary_unary(METHOD)
        first = predict.future(warm_request().SerializeToString())
        eventually(lambda: model.runs == 1)
        second = predict.future(warm_request().SerializeToString())
        time.sleep(0.3)
        second.cancel()
        time.sleep(0.3)
        model.release.set()
        assert first.result(30)
        assert predict(warm_request().SerializeToString(), timeout=30)
        assert model.runs == 2


def test_calls_that_send_no_message(base_path, monkeypatch):
    """They hold no thread that others need, and are cancelled although they set no deadline."""
    monkeypatch.setattr(grpc_server.GrpcServer.__init__, "__defaults__", (2.0,))
    is_over = threading.Event()

    def nothing():
        is_over.wait(60)
        yield from ()

    with (
        serving(base_path, grpc_max_threads=2) as server,
        channel_of(server) as hostile,
        Client(f"{server.host}:{server.port}", timeout=1.5) as client,
    ):
        stalled = [hostile.stream_unary(METHOD).future(nothing()) for _ in range(20)]
        talk = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        talks = [hostile.stream_stream(talk)(nothing()) for _ in range(4)]
        assert client.warm([["a", "b"]])[0].item_ids[0] == "c"
        for call in [*stalled, *talks]:
            eventually(call.done)
            assert call.code() != grpc.StatusCode.OK
        is_over.set()


def test_watches_are_refused_at_once(base_path):
    """A call that never ends holds no place, whether its message arrives or not."""
    is_over = threading.Event()

    def message(is_sent):
        if is_sent:
            yield b""
        is_over.wait(60)

    with serving(base_path) as server, channel_of(server) as channel:
        for is_sent in (True, False):
            watch = channel.stream_stream("/grpc.health.v1.Health/Watch")(message(is_sent))
            assert watch.code() == grpc.StatusCode.UNIMPLEMENTED
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=30) == b"\x08\x01"
        is_over.set()


def test_a_call_without_any_message(base_path):
    with serving(base_path) as server, channel_of(server) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(METHOD)(iter(()), timeout=30)
        assert caught.value.code() == grpc.StatusCode.INTERNAL


def test_many_calls_without_a_deadline(base_path):
    """16 threads send 20 requests each and wait for their answers without an end."""
    answers = queue.Queue()

    def send(channel):
        predict = channel.unary_unary(METHOD)
        for _ in range(20):
            answers.put(predict(warm_request().SerializeToString()))

    with serving(base_path, grpc_max_threads=4) as server, channel_of(server) as channel:
        for _ in range(16):
            threading.Thread(target=send, args=[channel], daemon=True).start()
        for _ in range(320):
            assert answers.get(timeout=60)


def test_grpc_messages_share_the_memory(base_path):
    limits = Limits(waiting_bytes=10_000)
    large = warm_request()
    large.inputs["history"].string_val.append(b"x" * 5_000)
    with serving(base_path, limits=limits) as server, channel_of(server) as channel:
        predict = channel.unary_unary(METHOD)
        assert predict(warm_request().SerializeToString(), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            predict(large.SerializeToString(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert predict(warm_request().SerializeToString(), timeout=30)


def test_short_fields_of_grpc_messages_count(base_path):
    """An empty string takes two bytes on the wire and an object in memory."""
    request = warm_request()
    request.inputs["history"].string_val.extend([b""] * 1_000)
    limits = Limits(waiting_bytes=8 * request.ByteSize() + 100_000)
    with serving(base_path, limits=limits) as server, channel_of(server) as channel:
        predict = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            predict(request.SerializeToString(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert predict(warm_request().SerializeToString(), timeout=30)


def test_grpc_connections_have_a_cap(base_path):
    with (
        serving(base_path, limits=Limits(connections=2)) as server,
        contextlib.ExitStack() as stack,
    ):
        ask_one = lambda channel: channel.unary_unary(METHOD)(
            warm_request().SerializeToString(), timeout=2
        )
        first, second = (stack.enter_context(channel_of(server)) for _ in range(2))
        assert ask_one(first) and ask_one(second)
        with channel_of(server) as third, pytest.raises(grpc.RpcError) as caught:
            ask_one(third)
        assert caught.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
        assert ask_one(first)
        second.close()
        with channel_of(server) as third:
            assert third.unary_unary(METHOD)(
                warm_request().SerializeToString(), timeout=30, wait_for_ready=True
            )

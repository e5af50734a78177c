"""Tests a local server with callers that send bombs, stall, leave, or hold connections.

The limits are small here, so that small requests exceed them.
"""

import contextlib
import dataclasses
import gc
import gzip
import http.client
import json
import pathlib
import queue
import re
import resource
import socket
import threading
import time
import tracemalloc
import zlib

import grpc
import pytest

from serving.client import Client
from serving.server import connections, grpc_server, rest_body
from serving.server.limits import Limits
from serving.server.local_server import LocalServer
from tests.serving.eventually import eventually
from tests.serving.test_local_server import warm_request

PATH = "/v1/models/cmclrec:predict"
METHOD = "/tensorflow.serving.PredictionService/Predict"
ROW = {"history": ["a", "b"], "exclude": [""]}
BODY = json.dumps({"signature_name": "warm", "instances": [ROW]}).encode()
HALF_HEAD = b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost"
LIMITS = Limits(message_bytes=2**18, json_values=5_000, waiting_bytes=3 * 2**19, connections=8)


@contextlib.contextmanager
def serving(base_path, **options):
    with LocalServer(base_path, port=0, rest_api_port=0, **options) as server:
        yield server


@pytest.fixture(scope="module")
def small(base_path):
    with serving(base_path, limits=LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(base_path):
    with serving(base_path, limits=Limits(idle_seconds=1)) as server:
        yield server


def ask(server, body=BODY, **headers):
    """Returns the status and the decoded answer of a REST request."""
    connection = http.client.HTTPConnection(server.host, server.rest_port, timeout=30)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def connect(server, text=b""):
    connection = socket.create_connection((server.host, server.rest_port), timeout=30)
    connection.sendall(text)
    return connection


def head(length):
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def raw_deflate(body):
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_encoded_bodies(small, encoding, encode, monkeypatch):
    monkeypatch.setattr(rest_body, "_STEP_BYTES", 2**12)
    assert ask(small, encode(BODY), Content_Encoding=encoding)[0] == 200
    # Decompression goes in steps; the last one may be full or empty.
    for size in (2**18 - 1, 2**18):
        padded = BODY + b" " * (size - len(BODY))
        assert ask(small, encode(padded), Content_Encoding=encoding)[0] == 200
    status, answer = ask(small, encode(padded + b" "), Content_Encoding=encoding)
    assert status == 413 and "At most 262144 bytes" in answer["error"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BODY),
        ("gzip", b""),
        ("gzip", gzip.compress(BODY)[:-5]),
        ("gzip", gzip.compress(BODY) + b"x"),
        ("gzip", gzip.compress(BODY) * 2),
        ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
        ("gzip", zlib.compress(BODY)),
        ("deflate", BODY),
        ("deflate", b"\x78"),
        ("deflate", zlib.compress(BODY)[:-1]),
    ],
)
def test_bodies_of_another_encoding(small, encoding, body):
    status, answer = ask(small, body, Content_Encoding=encoding)
    assert status == 400 and "is not one complete" in answer["error"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_unknown_encodings(small, encoding):
    status, answer = ask(small, BODY, Content_Encoding=encoding)
    assert status == 415 and "Content-Encoding" in answer["error"]


def test_a_bomb_does_not_hold_up_others(small):
    """200 MiB of spaces in 200 kB: refused at the limit, while others are answered."""
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join(stream.compress(b" " * 2**20) for _ in range(200)) + stream.flush()
    assert len(bomb) < LIMITS.message_bytes
    longest, is_over = 0.0, threading.Event()
    statuses = queue.Queue()

    def drop():
        statuses.put(ask(small, bomb, Content_Encoding="gzip")[0])
        is_over.set()

    threading.Thread(target=drop).start()
    while not is_over.is_set():
        start = time.monotonic()
        assert ask(small)[0] == 200
        longest = max(longest, time.monotonic() - start)
    assert statuses.get() == 413 and longest < 2


def test_refused_bodies_are_freed_at_once(small):
    """An error must not keep the body that it is about, until Python collects garbage."""
    zipped = gzip.compress(b" " * LIMITS.message_bytes)
    bodies = [zipped, gzip.compress(b"[" * 4_000), b"no gzip" * 9_000, zipped[:-1], BODY]
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(2):
            for body in bodies:
                ask(small, body, Content_Encoding="gzip")
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            for body in bodies:
                ask(small, body, Content_Encoding="gzip")
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    # Sockets and headers keep about 15 kB each.
    assert kept < 10 * len(bodies) * 2**15


def test_many_values_are_refused_before_they_are_parsed(small):
    """Five million empty lists take 15 kB of gzip and gigabytes of memory."""
    limit = LIMITS.json_values
    lists = b'{"instances":[' + b"[]," * (limit // 2) + b"[]]}"
    status, answer = ask(small, gzip.compress(lists), Content_Encoding="gzip")
    assert status == 400 and f"at most {limit} are served" in answer["error"]
    row = json.dumps({**ROW, "history": ["a"] * (limit - 7)})
    assert ask(small, f'{{"signature_name":"warm","instances":[{row}]}}'.encode())[0] == 200


def test_a_server_without_limits_refuses_many_values(base_path):
    lists = gzip.compress(b'{"instances":[' + b"[]," * 5_000_000)
    with serving(base_path) as server:
        start = time.monotonic()
        status, answer = ask(server, lists, Content_Encoding="gzip")
        assert status == 400 and "at most 1048576 are served" in answer["error"]
        assert time.monotonic() - start < 5


def test_waiting_bodies_share_the_memory(small, caplog):
    """Stalled bodies fill the memory: a further body is refused, until they are gone."""
    part = b" " * (LIMITS.message_bytes - 1)
    body = BODY + b" " * 2**17
    assert ask(small, body)[0] == 200
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(small, head(LIMITS.message_bytes) + part))
        eventually(lambda: ask(small, body)[0] == 429)
        assert "would take more than" in ask(small, body)[1]["error"]
        assert ask(small)[0] == 200
    eventually(lambda: ask(small, body)[0] == 200)
    # That a caller leaves is no event of the server.
    assert not caplog.records


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


@pytest.mark.parametrize("start", [b"", HALF_HEAD, head(len(BODY)) + BODY + HALF_HEAD])
def test_heads_must_arrive_in_time(hasty, start):
    """Also on a connection that has had an answer, and if bytes keep coming."""
    with connect(hasty, start) as slow:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + 10:
                slow.settimeout(0.2)
                with contextlib.suppress(socket.timeout):
                    if not slow.recv(4096):
                        break
                if start:
                    slow.sendall(b"x")
        assert 0.5 < time.monotonic() - began < 5


def test_idle_connections_make_room(small):
    """At the cap, the connection that has waited longest for a request goes."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(small, HALF_HEAD)) for _ in range(LIMITS.connections)]
        assert ask(small)[0] == 200
        assert idle[0].recv(4096).startswith(b"HTTP/1.1 503 ")
        idle[-1].settimeout(0.2)
        with pytest.raises(socket.timeout):
            idle[-1].recv(4096)


def test_connections_with_requests_keep_their_place(small):
    with contextlib.ExitStack() as stack:
        for _ in range(LIMITS.connections):
            stack.enter_context(connect(small, head(100) + b"{"))
        time.sleep(1)
        refused = stack.enter_context(connect(small))
        answer = refused.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert "Too many connections" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    eventually(lambda: ask(small)[0] == 200)


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


def channel_of(server):
    # Otherwise channels of one process share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"{server.host}:{server.port}", options=options)


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


def test_the_table_of_limits_is_complete():
    """docs/serving.md has a row for every limit, with its default."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
    rows = re.findall(r"^\|[^|]*\| ([^|]*) \| `--max_(\w+)` \|", text, re.MULTILINE)
    units = {"": 1, "s": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    by_name = {}
    for default, name in rows:
        number, _, unit = default.partition(" ")
        by_name[name] = int(number.replace(",", "")) * units[unit]
    assert by_name == dataclasses.asdict(Limits())


def test_the_cap_follows_the_file_descriptors():
    now = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(400, now[1]), now[1]))
        assert connections.affordable(1024) == 100
        assert connections.affordable(7) == 7
        connections.raise_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(2**16, now[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, now)

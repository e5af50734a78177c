"""Tests a local server with callers that send bombs, stall, or hold connections.

The limits are small here, so that small requests exceed them.
"""

import asyncio
import contextlib
import dataclasses
import gc
import gzip
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

import pytest

from serving.server import connections, rest_body
from serving.server.limits import Limits
from serving.server.memory import Share
from tests.serving.eventually import eventually
from tests.serving.raw_requests import BODY, ROW, ask, connect, head, serving

HALF_HEAD = b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost"
LIMITS = Limits(message_bytes=2**18, json_values=5_000, waiting_bytes=3 * 2**19, connections=8)


@pytest.fixture(scope="module")
def small(base_path):
    with serving(base_path, limits=LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(base_path):
    with serving(base_path, limits=Limits(idle_seconds=1)) as server:
        yield server


def in_streams(body):
    """Two streams with empty ones before, between and after them, 1,024 in all."""
    empty = gzip.compress(b"") * 511
    parts = [empty, gzip.compress(body[:50]), empty[: len(empty) // 511], gzip.compress(body[50:])]
    return b"".join([*parts, empty[: -len(empty) // 511]])


def raw_deflate(body):
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip", in_streams),
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


# Named, since a gzip header holds the time, and all workers must agree on the names of tests.
BROKEN = {
    "plain as gzip": ("gzip", BODY),
    "nothing as gzip": ("gzip", b""),
    "gzip cut short": ("gzip", gzip.compress(BODY)[:-5]),
    "gzip and more": ("gzip", gzip.compress(BODY) + b"x"),
    "too many streams": ("gzip", gzip.compress(BODY) + gzip.compress(b"") * 1024),
    "two streams of deflate": ("deflate", zlib.compress(BODY) * 2),
    "wrong checksum": ("gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
    "deflate as gzip": ("gzip", zlib.compress(BODY)),
    "plain as deflate": ("deflate", BODY),
    "one byte of deflate": ("deflate", b"\x78"),
    "deflate cut short": ("deflate", zlib.compress(BODY)[:-1]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bodies_of_another_encoding(small, case):
    encoding, body = BROKEN[case]
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


def test_waiting_bodies_share_the_memory(small, caplog, monkeypatch):
    """Stalled bodies fill the memory: a further body is refused, until they are gone."""
    resize, amounts = Share.resize, []

    def count(share, amount):
        resize(share, amount)
        amounts.append(amount)

    monkeypatch.setattr(Share, "resize", count)
    part = b" " * (LIMITS.message_bytes - 1)
    body = BODY + b" " * 2**17
    assert ask(small, body)[0] == 200
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(small, head(LIMITS.message_bytes) + part))
        # A body that is asked for before they have arrived could refuse one of them.
        eventually(lambda: amounts.count(len(part)) == 4)
        assert ask(small, body)[0] == 429
        assert "would take more than" in ask(small, body)[1]["error"]
        assert ask(small)[0] == 200
    eventually(lambda: ask(small, body)[0] == 200)
    # That a caller leaves is no event of the server.
    assert not caplog.records


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


def test_a_caller_that_does_not_read_makes_room():
    """Bytes that wait for the caller hold up the writer, and do not keep the connection open."""

    class Writer(asyncio.Protocol):
        paused, lost = False, False

        def connection_made(self, transport):
            writers.append(self)
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 4096)
            self.paused_at_once = self.paused

        def pause_writing(self):
            self.paused = True

        def connection_lost(self, error):
            self.lost = True

    async def call_twice():
        loop = asyncio.get_running_loop()
        gate = connections.ConnectionGate(Writer, 1)
        server = await loop.create_server(gate, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address), socket.create_connection(address):
            for _ in range(100):
                await asyncio.sleep(0.02)
                if len(writers) == 2 and writers[0].lost:
                    break
        server.close()

    writers = []
    asyncio.run(call_twice())
    assert [writer.paused_at_once for writer in writers] == [True, True]
    assert writers[0].lost


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

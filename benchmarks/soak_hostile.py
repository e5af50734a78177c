"""Sends what hostile and careless callers send: bombs, slow heads, half requests, no deadlines."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence

import grpc

from benchmarks import soak_requests
from benchmarks.soak_callers import CallerThreads, Tally, letter_of
from benchmarks.soak_models import Case
from serving import contract, tensor_protos
from serving.client import loopback

_PATH = f"/v1/models/{contract.MODEL_NAME}:predict"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_HALF_HEAD = f"POST {_PATH} HTTP/1.1\r\nHost: x".encode()
# Long enough that several rounds of stalled callers overlap.
_STALL_SECONDS = 5.0
_SOCKETS = 60
# The last one is an answer of a server whose memory other callers have taken.
_REFUSALS = {400, 413, 415, 429}


def _bombs() -> list[tuple[bytes, dict[str, str]]]:
    """Returns bodies, and their headers, that take much more than their size to decode."""
    stream = zlib.compressobj(9, wbits=31)
    spaces = b"".join(stream.compress(b" " * 2**20) for _ in range(500)) + stream.flush()
    lists, zipped = b'{"instances":[' + b"[]," * 5_000_000, {"Content-Encoding": "gzip"}
    deep = b'{"instances":' + b"[" * 500_000
    return [
        (spaces, zipped),
        (gzip.compress(lists, 9), zipped),
        (lists, {}),
        (deep, {}),
        (zlib.compress(deep), {"Content-Encoding": "deflate"}),
        (lists, zipped),
        (spaces, {"Content-Encoding": "br"}),
    ]


class HostileCallers(CallerThreads):
    """Threads that misuse a server until they are stopped.

    Args:
        cases: users with the expected answers.
        target: gRPC address, `host:port`.
        host: host of REST.
        rest_port: port of REST.
        tally: counts the answers and the refusals.
        seed: seeds the choice of requests.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        target: str,
        host: str,
        rest_port: int | None,
        tally: Tally,
        seed: int,
    ):
        assert rest_port is not None  # the soak serves REST
        self._cases, self._target, self._rest = cases, target, (host, rest_port)
        self._tally, self._bombs = tally, itertools.cycle(_bombs())
        rounds = [self._no_deadline, self._close_early, self._bomb, self._slow_heads]
        super().__init__(self._repeat, [*rounds, self._no_message], seed)

    def _repeat(self, once: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            while not self._stop.is_set():
                # The server may be away.
                with contextlib.suppress(OSError, http.client.HTTPException):
                    once(rng)
                self._stop.wait(0.1)
        except Exception as error:
            self._tally.loss(once.__name__, f"{type(error).__name__}: {error}")

    def _channel(self) -> grpc.Channel:
        options = [*loopback.channel_options(self._target), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(self._target, options=options)

    def _request(self, rng: random.Random) -> tuple[Case, bytes]:
        case = rng.choice(self._cases)
        record = soak_requests.record(case.user)
        request = soak_requests.predict(contract.SERVING_DEFAULT, examples=[record])
        return case, request.SerializeToString()

    def _no_deadline(self, rng: random.Random) -> None:
        """Waits for each answer without an end, and sends again if the server stops."""
        from tensorflow_serving.apis import predict_pb2

        case, message = self._request(rng)
        start = time.monotonic()
        with self._channel() as channel:
            predict = channel.unary_unary(_PREDICT, None, None)
            raw = None
            while raw is None:
                try:
                    raw = predict(message, wait_for_ready=True)
                except grpc.RpcError as error:
                    if error.code() not in (
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.CANCELLED,
                    ):
                        self._tally.loss("grpc without deadline", str(error.code()))
                        return
        answer = predict_pb2.PredictResponse.FromString(raw)
        version = answer.model_spec.version.value
        items, scores = (
            tensor_protos.decode(answer.outputs[name])[0].tolist()
            for name in (contract.ITEM_IDS, contract.SCORES)
        )
        names = [item.decode() for item in items if item]
        fits = case.fits(letter_of(version), names, scores[: len(names)])
        self._tally.answer("grpc without deadline", fits, time.monotonic() - start, version)

    def _close_early(self, rng: random.Random) -> None:
        """Sends requests over both interfaces and does not wait for the answers."""
        case, message = self._request(rng)
        with self._channel() as channel:
            calls = [channel.unary_unary(_PREDICT, None, None).future(message) for _ in range(20)]
            self._stop.wait(rng.random() / 20)
            for call in calls:
                call.cancel()
        rows = [{"history": case.user["history"] or ["i1"], "exclude": [""]}] * 200
        body = json.dumps({"signature_name": contract.WARM, "instances": rows}).encode()
        head = f"{_HALF_HEAD.decode()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for _ in range(10):
            with socket.create_connection(self._rest, timeout=30) as connection:
                connection.sendall((head + body)[: rng.randrange(len(head), 2 * len(body))])
                self._stop.wait(rng.random() / 50)
        self._tally.refusal("closed early", True)

    def _bomb(self, rng: random.Random) -> None:
        body, headers = next(self._bombs)
        connection = http.client.HTTPConnection(*self._rest, timeout=60)
        try:
            connection.request("POST", _PATH, body, headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        self._tally.refusal(f"bomb {answer.status}", answer.status in _REFUSALS)

    def _slow_heads(self, rng: random.Random) -> None:
        """Opens connections that send a head byte by byte, or a body that stops."""
        body = f"{_HALF_HEAD.decode()}\r\nContent-Length: 10000000\r\n\r\n".encode() + b" " * 9000
        with contextlib.ExitStack() as stack:
            sockets = []
            for number in range(_SOCKETS):
                slow = stack.enter_context(socket.create_connection(self._rest, timeout=30))
                slow.sendall(body if number % 2 else _HALF_HEAD)
                sockets.append(slow)
            end = time.monotonic() + _STALL_SECONDS
            while time.monotonic() < end and not self._stop.wait(0.5):
                for slow in sockets:
                    slow.sendall(b"x")
        self._tally.refusal("slow heads", True)

    def _no_message(self, rng: random.Random) -> None:
        """Starts gRPC requests without a deadline whose message never comes."""

        def nothing() -> Iterator[bytes]:
            self._stop.wait(_STALL_SECONDS)
            yield from ()

        with self._channel() as channel:
            calls = [
                channel.stream_unary(_PREDICT, None, None).future(nothing())
                for _ in range(_SOCKETS)
            ]
            self._stop.wait(_STALL_SECONDS)
            for call in calls:
                call.cancel()
        self._tally.refusal("no message", True)

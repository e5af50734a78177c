"""Sends requests to a server from several threads and compares every answer with Keras."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks import soak_requests
from benchmarks.soak_models import LETTERS, Case
from serving import contract, tensor_protos
from serving.client import AsyncClient, Client, Recommendations, ServingError, loopback

# A restart takes seconds: a caller that waits this long gets an answer.
PATIENCE = 90.0
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,
}
# Statuses of a server that is being restarted, which say nothing about the request.
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def letter_of(version: int) -> str:
    """Returns the letter of the model that a version contains."""
    return LETTERS[version % 2]


class Tally:
    """Counts of what happened; threads may share it.

    Attributes:
        answered: `{kind of request: answers}`.
        refused: `{status: malformed requests that it refused}`.
        versions: versions that answered.
        lost: a line for each request without an answer.
        wrong: a line for each wrong answer, and for each malformed request with a wrong status.
        seconds: latency of each answer.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.answered: collections.Counter[str] = collections.Counter()
        self.refused: collections.Counter[str] = collections.Counter()
        self.versions: set[int] = set()
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.seconds: list[float] = []

    def answer(self, kind: str, fits: bool, seconds: float, version: int | None = None) -> None:
        """Counts an answer, which is wrong unless it `fits`."""
        with self._lock:
            self.answered[kind] += 1
            self.seconds.append(seconds)
            if version is not None:
                self.versions.add(version)
            if not fits:
                self.wrong.append(kind)

    def loss(self, kind: str, reason: str) -> None:
        """Counts a request that a caller gave up."""
        with self._lock:
            self.lost.append(f"{kind}: {reason}")

    def refusal(self, code: str, expected: bool) -> None:
        """Counts a malformed request and whether its status was an expected one."""
        with self._lock:
            self.refused[code] += 1
            if not expected:
                self.wrong.append(f"malformed: {code}")


class CallerThreads:
    """Threads that run callers, each with random numbers of its own.

    Args:
        run: runs a caller in its thread; it must end soon after `_stop` is set.
        callers: one for each thread.
        seed: seeds the random numbers.
    """

    def __init__(
        self,
        run: Callable[[Callable[[random.Random], None], random.Random], None],
        callers: Sequence[Callable[[random.Random], None]],
        seed: int,
    ):
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=run, args=[caller, random.Random(seed + number)])
            for number, caller in enumerate(callers)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops the threads after their current requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Callers(CallerThreads):
    """Threads that send requests until they are stopped.

    Args:
        cases: users with the expected answers.
        target: gRPC address, `host:port`.
        host: host of REST.
        rest_port: port of REST.
        seed: seeds the choice of requests.

    Attributes:
        tally: what happened so far.
    """

    def __init__(
        self, cases: Sequence[Case], target: str, host: str, rest_port: int | None, seed: int
    ):
        self.tally, self._cases, self._target = Tally(), cases, target
        self._host, self._rest_port = host, rest_port
        callers = [self._sync, self._sync, self._batches, self._tasks, self._embeddings]
        callers += [self._rest, self._malformed]
        super().__init__(self._guarded, callers, seed)

    def _guarded(self, caller: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            caller(rng)
        except Exception as error:
            self.tally.loss(caller.__name__, f"{type(error).__name__}: {error}")

    def _choose(self, rng: random.Random) -> tuple[Case, dict[str, Any]]:
        """Returns a case and the user to send: all its data, or its history and an `exclude`."""
        case = rng.choice(self._cases)
        history = case.user["history"]
        if history and rng.random() < 0.5:
            exclude = rng.sample(sorted(case.scores["a"]), 2)
            return case.by_history(), {"history": history, "exclude": exclude}
        return case, dict(case.user)

    def _check(
        self, kind: str, case: Case, user: dict[str, Any], answer: Recommendations, start: float
    ) -> None:
        assert answer.version is not None  # the server always sets it
        fits = case.fits(
            letter_of(answer.version), answer.item_ids, answer.scores, user.get("exclude", ())
        )
        seconds = time.monotonic() - start
        self.tally.answer(f"{kind} {answer.signature}", fits, seconds, answer.version)

    def _sync(self, rng: random.Random) -> None:
        with Client(self._target, timeout=PATIENCE) as client:
            while not self._stop.is_set():
                (case, user), start = self._choose(rng), time.monotonic()
                try:
                    self._check("grpc", case, user, client.recommend(user), start)
                except ServingError as error:
                    self.tally.loss("grpc", str(error))

    def _batches(self, rng: random.Random) -> None:
        with Client(self._target, timeout=PATIENCE) as client:
            while not self._stop.is_set():
                batch, start = [self._choose(rng) for _ in range(32)], time.monotonic()
                try:
                    answers = client.recommend_many([user for _, user in batch])
                except ServingError as error:
                    self.tally.loss("grpc batch", str(error))
                    continue
                for (case, user), answer in zip(batch, answers, strict=True):
                    self._check("grpc batch", case, user, answer, start)

    def _tasks(self, rng: random.Random) -> None:
        async def send() -> None:
            async with AsyncClient(self._target, timeout=PATIENCE) as client:
                while not self._stop.is_set():
                    await asyncio.gather(*(self._send_async(client, rng) for _ in range(4)))

        asyncio.run(send())

    async def _send_async(self, client: AsyncClient, rng: random.Random) -> None:
        (case, user), start = self._choose(rng), time.monotonic()
        try:
            self._check("asyncio", case, user, await client.recommend(user), start)
        except ServingError as error:
            self.tally.loss("asyncio", str(error))

    def _embeddings(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            case, start = rng.choice(self._cases), time.monotonic()
            record = soak_requests.record(case.user)
            request = soak_requests.predict(contract.USER_EMBEDDING, examples=[record])
            with grpc.insecure_channel(
                self._target, options=loopback.channel_options(self._target)
            ) as channel:
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                answer = None
                while answer is None and time.monotonic() < start + PATIENCE:
                    try:
                        answer = predict(request, timeout=PATIENCE, wait_for_ready=True)
                    except grpc.RpcError as error:
                        if error.code() not in _AWAY:
                            break
            if answer is None:
                self.tally.loss("grpc user_embedding", "no answer")
                continue
            version = answer.model_spec.version.value
            embedding = tensor_protos.decode(answer.outputs[contract.EMBEDDING])[0]
            fits = np.allclose(embedding, case.states[letter_of(version)], atol=1e-4)
            seconds = time.monotonic() - start
            self.tally.answer("grpc user_embedding", fits, seconds, version)

    def _rest(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            (case, user), start = self._choose(rng), time.monotonic()
            if "exclude" in user:
                row = {"history": user["history"], "exclude": user["exclude"]}
            else:
                row = {**user, "exclude": [""]}
                del row["history"]
            signature = contract.WARM if "history" in row else contract.COLD
            body = json.dumps({"signature_name": signature, "instances": [row]})
            answer, reason = None, ""
            while answer is None and time.monotonic() < start + PATIENCE:
                answer, reason = self._post(body)
            if answer is None:
                self.tally.loss("rest", reason)
                continue
            if signature == contract.COLD:
                # The request has no history, so the answer may contain its items.
                case = dataclasses.replace(case, user={**case.user, "history": []})
                if user["history"]:
                    self.tally.answer("rest cold of a warm user", bool(answer["item_ids"]), 0.0)
                    continue
            # A REST answer does not name the version.
            fits = any(
                case.fits(letter, answer["item_ids"], answer["scores"], row["exclude"])
                for letter in LETTERS
            )
            self.tally.answer(f"rest {signature}", fits, time.monotonic() - start)

    def _post(self, body: str) -> tuple[dict[str, Any] | None, str]:
        """Returns (prediction, ""), or (None, reason) if the request must be sent again."""
        connection = http.client.HTTPConnection(self._host, self._rest_port, timeout=30)
        try:
            connection.request("POST", "/v1/models/cmclrec:predict", body)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                return json.loads(text)["predictions"][0], ""
            reason = f"HTTP {answer.status} {text[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
        finally:
            connection.close()
        time.sleep(0.1)
        return None, reason

    def _malformed(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            message = soak_requests.malformed(rng)
            with grpc.insecure_channel(
                self._target, options=loopback.channel_options(self._target)
            ) as channel:
                call = channel.unary_unary(
                    "/tensorflow.serving.PredictionService/Predict", None, None
                )
                try:
                    call(message, timeout=PATIENCE, wait_for_ready=True)
                except grpc.RpcError as error:
                    if error.code() not in _AWAY:
                        self.tally.refusal(error.code().name, error.code() in _REFUSALS)
                else:
                    self.tally.refusal("OK", False)
            time.sleep(0.02)

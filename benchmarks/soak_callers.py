"""Callers that ask a server all the while and hold each answer against Keras."""

import asyncio
import collections
import http.client
import json
import random
import threading
import time

import grpc
import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.soak_models import LETTERS
from serving import tensor_protos
from serving.client import AsyncClient, Client, ServingError

# A restart takes seconds; whoever waits that long gets an answer.
PATIENCE = 90.0
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,
}
# Not of the request, but of a server that is just being restarted.
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def letter_of(version):
    """Which model a version is."""
    return LETTERS[version % 2]


class Tally:
    """What happened, counted by many threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self.answered, self.refused = collections.Counter(), collections.Counter()
        self.versions, self.lost, self.wrong, self.seconds = set(), [], [], []

    def answer(self, who, fits, seconds, version=None) -> None:
        """Counts an answer."""
        with self._lock:
            self.answered[who] += 1
            self.seconds.append(seconds)
            if version is not None:
                self.versions.add(version)
            if not fits:
                self.wrong.append(who)

    def loss(self, who, reason) -> None:
        """Counts a request that a caller gave up."""
        with self._lock:
            self.lost.append(f"{who}: {reason}")

    def refusal(self, code, expected) -> None:
        """Counts a malformed request."""
        with self._lock:
            self.refused[code] += 1
            if not expected:
                self.wrong.append(f"malformed: {code}")


class Callers:
    """Threads that ask until they are stopped.

    Args:
        cases: [`soak_models.Case`].
        target: of gRPC.
        host, rest_port: of REST.
        seed: of what they ask.
    """

    def __init__(self, cases, target, host, rest_port, seed):
        self.tally, self._cases, self._target = Tally(), cases, target
        self._host, self._rest_port, self._stop = host, rest_port, threading.Event()
        work = [self._sync, self._sync, self._batches, self._tasks, self._embeddings]
        work += [self._rest, self._malformed]
        self._threads = [
            threading.Thread(target=self._guarded, args=[run, random.Random(seed + number)])
            for number, run in enumerate(work)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Waits for the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, run, rng):
        try:
            run(rng)
        except Exception as error:
            self.tally.loss(run.__name__, f"{type(error).__name__}: {error}")

    def _client(self, kind=Client):
        return kind(self._target, timeout=PATIENCE)

    def _drawn(self, rng):
        """(case, user): by all that is known, by history alone or by user features alone."""
        case = rng.choice(self._cases)
        history = case.user["history"]
        if history and rng.random() < 0.5:
            return case, {"history": history, "exclude": rng.sample(sorted(case.scores["a"]), 2)}
        return case, dict(case.user)

    def _judge(self, who, case, user, found, start):
        fits = case.fits(
            letter_of(found.version), found.item_ids, found.scores, user.get("exclude", ())
        )
        took = time.monotonic() - start
        self.tally.answer(f"{who} {found.signature}", fits, took, found.version)

    def _sync(self, rng):
        with self._client() as client:
            while not self._stop.is_set():
                (case, user), start = self._drawn(rng), time.monotonic()
                try:
                    self._judge("grpc", case, user, client.recommend(user), start)
                except ServingError as error:
                    self.tally.loss("grpc", str(error))

    def _batches(self, rng):
        with self._client() as client:
            while not self._stop.is_set():
                drawn, start = [self._drawn(rng) for _ in range(32)], time.monotonic()
                try:
                    answers = client.recommend_many([user for _, user in drawn])
                except ServingError as error:
                    self.tally.loss("grpc batch", str(error))
                    continue
                for (case, user), found in zip(drawn, answers, strict=True):
                    self._judge("grpc batch", case, user, found, start)

    def _tasks(self, rng):
        async def ask():
            async with self._client(AsyncClient) as client:
                while not self._stop.is_set():
                    await asyncio.gather(*(self._ask_async(client, rng) for _ in range(4)))

        asyncio.run(ask())

    async def _ask_async(self, client, rng):
        (case, user), start = self._drawn(rng), time.monotonic()
        try:
            self._judge("asyncio", case, user, await client.recommend(user), start)
        except ServingError as error:
            self.tally.loss("asyncio", str(error))

    def _embeddings(self, rng):
        while not self._stop.is_set():
            case, start = rng.choice(self._cases), time.monotonic()
            request = _request("user_embedding", examples=[_record(case.user)])
            with grpc.insecure_channel(self._target) as channel:
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
            found = tensor_protos.decode(answer.outputs["embedding"])[0]
            fits = np.allclose(found, case.states[letter_of(version)], atol=1e-4)
            took = time.monotonic() - start
            self.tally.answer("grpc user_embedding", fits, took, version)

    def _rest(self, rng):
        while not self._stop.is_set():
            (case, user), start = self._drawn(rng), time.monotonic()
            if "exclude" in user:
                row = {"history": user["history"], "exclude": user["exclude"]}
            else:
                row = {**user, "exclude": [""]}
                del row["history"]
            signature = "warm" if "history" in row else "cold"
            body = json.dumps({"signature_name": signature, "instances": [row]})
            found, reason = None, ""
            while found is None and time.monotonic() < start + PATIENCE:
                found, reason = self._post(body)
            if found is None:
                self.tally.loss("rest", reason)
                continue
            if signature == "cold":
                # A history that was not sent hides nothing.
                case = type(case)({**case.user, "history": []}, case.scores, case.states)
                if user["history"]:
                    self.tally.answer("rest cold of a warm user", bool(found["item_ids"]), 0.0)
                    continue
            fits = any(
                case.fits(letter, found["item_ids"], found["scores"], row["exclude"])
                for letter in LETTERS
            )
            self.tally.answer(f"rest {signature}", fits, time.monotonic() - start)

    def _post(self, body):
        """(prediction, ""), or (None, why) after which one asks again."""
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

    def _malformed(self, rng):
        while not self._stop.is_set():
            raw = malformed(rng)
            with grpc.insecure_channel(self._target) as channel:
                call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
                try:
                    call(raw, timeout=PATIENCE, wait_for_ready=True)
                except grpc.RpcError as error:
                    if error.code() not in _AWAY:
                        self.tally.refusal(error.code().name, error.code() in _REFUSALS)
                else:
                    self.tally.refusal("OK", False)
            time.sleep(0.02)


def malformed(rng):
    """A serialized request that no server may answer."""
    nothing = [[b""]]
    kind = rng.randrange(7)
    if kind == 0:
        return b"\xff" + rng.randbytes(rng.randrange(1, 200))
    request = _request("warm", history=nothing, exclude=nothing)
    if kind == 1:
        request.model_spec.name = rng.randbytes(8).hex()
    elif kind == 2:
        request.model_spec.version.value = 10**9
    elif kind == 3:
        request.model_spec.signature_name = "hot\0"
    elif kind == 4:
        request.inputs["history"].tensor_shape.dim[0].size = rng.choice([-1, 2, 2**40])
    elif kind == 5:
        del request.inputs["exclude"]
    else:
        request = _request("serving_default", examples=[b"\xff" * rng.randrange(1, 1000)])
    return request.SerializeToString()


def _request(signature, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "cmclrec", signature
    for name, values in inputs.items():
        tensor_protos.encode(np.array(values, object), request.inputs[name])
    return request


def _record(user):
    record = example_pb2.Example()
    for name, value in user.items():
        feature = record.features.feature[name]
        if isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            texts = [value] if isinstance(value, str) else value
            feature.bytes_list.value.extend(text.encode() for text in texts)
    return record.SerializeToString()

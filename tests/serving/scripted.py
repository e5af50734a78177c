"""Runs a gRPC server that fails according to a script, and calls it with both clients."""

import asyncio
import contextlib
import threading
import time
from concurrent import futures

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import tensor_protos
from serving.client import AsyncClient, Client


class Script(
    model_service_pb2_grpc.ModelServiceServicer,
    prediction_service_pb2_grpc.PredictionServiceServicer,
):
    """Aborts the first requests, then answers every user with item "x".

    Args:
        failures: number of requests to abort.
        code: status of the aborted requests.
        seconds: duration of an answer.

    Attributes:
        seen: number of requests so far.
        most: largest number of requests at the same time.
    """

    def __init__(self, failures=0, code=grpc.StatusCode.UNAVAILABLE, seconds=0.0):
        self.failures, self.code, self.seconds = failures, code, seconds
        self.seen, self.most, self._now = 0, 0, 0
        self._lock = threading.Lock()

    def _play(self, context):
        with self._lock:
            self.seen += 1
            self._now += 1
            self.most = max(self.most, self._now)
            fails = self.seen <= self.failures
        try:
            time.sleep(self.seconds)
            if fails:
                context.abort(self.code, "not today")
        finally:
            with self._lock:
                self._now -= 1

    def GetModelStatus(self, request, context):  # noqa: N802  the service sets the name
        self._play(context)
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[get_model_status_pb2.ModelVersionStatus(version=7, state=30)]
        )

    def Predict(self, request, context):  # noqa: N802
        self._play(context)
        rows = request.inputs["history"].tensor_shape.dim[0].size
        response = predict_pb2.PredictResponse()
        tensor_protos.encode(np.full([rows, 1], b"x", object), response.outputs["item_ids"])
        tensor_protos.encode(np.ones([rows, 1], np.float32), response.outputs["scores"])
        return response


@contextlib.contextmanager
def playing(script, port=0, credentials=None):
    """Runs a server with a script and yields its target."""
    server = grpc.server(
        futures.ThreadPoolExecutor(16),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**26)],
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(script, server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(script, server)
    address = f"127.0.0.1:{port}"
    if credentials:
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def call_with_threads(target, asks, *, at_once=1, **options):
    """Calls each function with a shared `Client`; returns answers and errors in order."""

    def one(ask):
        try:
            return ask(client)
        except Exception as error:
            return error

    with Client(target, **options) as client, futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, asks))


def call_with_tasks(target, asks, *, at_once=1, **options):
    """Does the same with an `AsyncClient`, in one task per function."""

    async def main():
        free = asyncio.Semaphore(at_once)

        async def one(ask):
            async with free:
                return await ask(client)

        async with AsyncClient(target, **options) as client:
            return await asyncio.gather(*map(one, asks), return_exceptions=True)

    return asyncio.run(main())


CALLERS = [call_with_threads, call_with_tasks]

"""Tests `Client` with targets that fail: another model or service, a slow, stopped or no server."""

import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc

from cmclrec_tf.errors import InputError, ReadableError
from serving.client import Client, ServingError
from serving.server.local_server import LocalServer

Code = grpc.StatusCode


def test_unknown_model(target):
    with Client(target, model_name="other") as client:
        for ask in (client.status, client.metadata, lambda: client.warm([["a"]])):
            with pytest.raises(ServingError) as caught:
                ask()
            assert caught.value.code == Code.NOT_FOUND
            assert target in str(caught.value)
            assert "other" in str(caught.value)
            assert "\n" not in str(caught.value)
            assert isinstance(caught.value, ReadableError)


def test_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    with Client(f"127.0.0.1:{port}", timeout=0.5) as client, pytest.raises(ServingError) as caught:
        client.warm([["a"]])
    assert time.monotonic() - started < 1.5
    assert caught.value.code == Code.UNAVAILABLE
    assert f"127.0.0.1:{port}: warm failed, UNAVAILABLE" in str(caught.value)
    assert "Start the server" in str(caught.value)


def test_deadline():
    """A server that takes longer than the timeout."""
    release = threading.Event()

    class Slow(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802  named by the service
            release.wait(30)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Slow(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with Client(target, timeout=0.3) as client, pytest.raises(ServingError) as caught:
            client.status()
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        assert target in str(caught.value)
    finally:
        release.set()
        server.stop(None).wait()


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_bad_timeouts(timeout):
    with pytest.raises(InputError, match="timeout="):
        Client(timeout=timeout)


def test_another_service():
    """A gRPC server without TensorFlow Serving's services answers UNIMPLEMENTED."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}") as client, pytest.raises(ServingError) as caught:
            client.warm([["a"]])
        assert caught.value.code == Code.UNIMPLEMENTED
        assert "cmclrec serve" in str(caught.value)
    finally:
        server.stop(None).wait()


def test_server_that_stops(base_path):
    with LocalServer(base_path, port=0) as server:
        client = Client(f"{server.host}:{server.port}", timeout=2.0)
        assert client.warm([["a"]])[0].item_ids[0] == "b"
    with client, pytest.raises(ServingError) as caught:
        client.warm([["a"]])
    assert caught.value.code == Code.UNAVAILABLE

"""Tests a local server with large requests and answers, long histories and stalled callers."""

import contextlib
import json
import re
import socket
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.client import Client
from serving.contract import SIGNATURES
from serving.server.local_server import LocalServer
from tests.serving import conftest
from tests.serving.inputs import cold_inputs, feature_inputs, record, warm_inputs
from tests.serving.test_local_server import predict_request, refused

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def real(exported):
    with LocalServer(exported.parent, port=0, rest_api_port=0) as server:
        yield server


@contextlib.contextmanager
def stub_of(server, options=(("grpc.max_receive_message_length", -1),)):
    options = [*options, ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"{server.host}:{server.port}", options=options) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict(server, signature, inputs):
    """Sends inputs as the C API takes them, and returns the answer as arrays."""
    protos = {name: tf.make_tensor_proto(value) for name, value in inputs.items()}
    with stub_of(server) as stub:
        answer = stub.Predict(predict_request(signature, **protos), timeout=120)
    return {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}


@pytest.mark.parametrize("rows", [0, 1, 1024])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_batches_of_any_size(real, session, records, signature, rows):
    users = [records["test"][i % 32] for i in range(rows)]
    inputs = {
        "warm": lambda: warm_inputs([user["history"] for user in users]),
        "cold": lambda: cold_inputs(users),
        "simulated_history": lambda: feature_inputs(users),
    }.get(signature, lambda: {"examples": np.array([record(u) for u in users], object)})()
    answer, expected = predict(real, signature, inputs), session.run(signature, inputs)
    assert {name: len(values) for name, values in answer.items()} == dict.fromkeys(expected, rows)
    for name, values in expected.items():
        if values.dtype == object or values.dtype == bool:
            np.testing.assert_array_equal(answer[name], values)
        else:
            np.testing.assert_allclose(answer[name], values, atol=1e-5)


def test_a_history_of_100000_items(real, session):
    tail = [f"i{n}" for n in range(11, 19)]
    long = [["i1", "i2"] * 50_000 + tail]
    answer = predict(real, "warm", warm_inputs(long))
    short = session.run("warm", warm_inputs([tail], [["i1", "i2"]]))
    np.testing.assert_array_equal(answer["item_ids"], short["item_ids"])
    with refused(Code.INVALID_ARGUMENT, "200000 values in a row: at most 131072"):
        predict(real, "warm", warm_inputs([["i1"] * 200_000]))


def test_unknown_items_and_empty_lists(real):
    strange = predict(real, "warm", warm_inputs([["never seen", "\x00", "é\u2028"]]))
    empty = predict(real, "warm", warm_inputs([[""]]))
    np.testing.assert_array_equal(strange["item_ids"], empty["item_ids"])
    everything = [[f"i{n}" for n in range(20)]]
    answer = predict(real, "warm", warm_inputs([["i3"]], everything))
    assert set(answer["item_ids"].ravel()) == {b""}
    assert set(answer["scores"].ravel()) == {np.finfo(np.float32).min}


@pytest.fixture(scope="module")
def wordy_base(tmp_path_factory):
    """A model base path; its model has long item ids: its answer for 4,096 users has 5 MB."""
    base = tmp_path_factory.mktemp("wordy") / "cmclrec"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "ITEMS", tuple(letter * 400 for letter in "abcde"))
        conftest.write_saved_model(base / "1", tmp_path_factory.mktemp("assets"))
    return base


@pytest.fixture(scope="module")
def wordy(wordy_base):
    with LocalServer(wordy_base, port=0, rest_api_port=0) as server:
        yield server


def test_an_answer_of_more_than_4_mb(wordy):
    after_b = ["c" * 400, "d" * 400, "e" * 400]
    histories = [["a" * 400, "b" * 400]] * 4096
    with Client(f"{wordy.host}:{wordy.port}", timeout=60.0) as client:
        answers = client.warm(histories)
        assert [list(answer.item_ids) for answer in answers] == [after_b] * 4096
        # A caller that sets no limit has gRPC's limit of 4 MB.
        request = predict_request("warm", history=histories, exclude=[[""]] * 4096)
        with stub_of(wordy, options=()) as stub, refused(Code.RESOURCE_EXHAUSTED, "larger"):
            stub.Predict(request, timeout=60)
        assert list(client.warm(histories[:1])[0].item_ids) == after_b


def test_callers_that_never_read(wordy):
    """Their 5 MB answers exceed the buffers of the connection; others must still be answered."""
    rows = [{"history": ["a" * 400], "exclude": [""]}] * 4096
    body = json.dumps({"signature_name": "warm", "instances": rows}).encode()
    head = f"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(60)
            reader.connect((wordy.host, wordy.rest_port))
            reader.sendall(f"{head}\r\n".encode() + body)
            # The answer has started and cannot continue.
            assert reader.recv(8, socket.MSG_PEEK) == b"HTTP/1.1"
        _still_answers(wordy)


def test_callers_that_never_read_are_cut_off(wordy_base):
    """After the time of a request, the server drops the connection and what it had to send."""
    rows = [{"history": ["a" * 400], "exclude": [""]}] * 4096
    body = json.dumps({"signature_name": "warm", "instances": rows}).encode()
    head = f"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    options = {"rest_api_port": 0, "rest_api_timeout_in_ms": 3000}
    with (
        LocalServer(wordy_base, port=0, **options) as server,
        socket.socket() as reader,
    ):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(60)
        reader.connect((server.host, server.rest_port))
        reader.sendall(f"{head}\r\n".encode() + body)
        reader.recv(8, socket.MSG_PEEK)
        time.sleep(4)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := reader.recv(2**20):
                answer += part
        (length,) = re.findall(rb"Content-Length: (\d+)", answer)
        assert len(answer) < int(length)
        _still_answers(server)


@pytest.mark.parametrize(
    "start", [b"", b"PRI * HTTP/2.0\r\n", b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nContent-"]
)
def test_callers_that_hang(wordy, start):
    """300 connections to both ports stop in the middle of a request."""
    with contextlib.ExitStack() as stack:
        for port in (wordy.port, wordy.rest_port) * 150:
            hung = stack.enter_context(socket.create_connection((wordy.host, port), timeout=30))
            hung.sendall(start)
        _still_answers(wordy)


def test_rest_and_grpc_share_the_grace(base_path, monkeypatch):
    """A stalled REST request takes all of it; gRPC, which stops next, gets the rest."""
    server = LocalServer(base_path, port=0, rest_api_port=0).start()
    graces, stop = [], server._grpc.stop
    monkeypatch.setattr(server._grpc, "stop", lambda grace: graces.append(grace) or stop(grace))
    head = b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((server.host, server.rest_port), timeout=30) as stalled:
        stalled.sendall(head)
        time.sleep(0.3)
        began = time.monotonic()
        server.stop(grace=2.0)
        taken = time.monotonic() - began
    assert graces == [pytest.approx(max(0.0, 2.0 - taken), abs=0.5)]
    assert 1.5 < taken < 3.5


def _still_answers(server):
    with Client(f"{server.host}:{server.port}", timeout=30.0) as client:
        for _ in range(5):
            (answer,) = client.warm([["a" * 400, "b" * 400]])
            assert answer.item_ids[0] == "c" * 400

"""Tests that logs hold no byte of a request, and stay short under a flood."""

import contextlib
import gzip
import io
import json
import logging
import re
import signal
import socket

import grpc

from serving import tensor_protos
from serving.c_api.tensors import as_array
from serving.server import logs
from tests.serving.test_local_server import warm_request
from tests.serving.test_serving_cli import serving

CANARY = "Kanarienvogel"
PATH = "/v1/models/cmclrec"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def request(body, *headers, method="POST", path=f"{PATH}:predict", length=None):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def history(*items):
    rows = [{"history": list(items), "exclude": [""]}]
    return json.dumps({"signature_name": "warm", "instances": rows}, ensure_ascii=False)


# Content-Length counts characters here, so the rest of the history is read as the next request.
SHORT = history("ü" * 40, CANARY)
BODY = history(CANARY).encode()
PAYLOADS = [
    request(SHORT.encode(), length=len(SHORT)) + request(b"{}"),
    request(SHORT.encode(), length=len(SHORT) - 60) + request(SHORT.encode()),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x40\4\0" + CANARY.encode() * 9,
    request(b"", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", f"HTTP2-Settings: {CANARY}")
    + CANARY.encode(),
    request(b"", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {CANARY}"),
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + CANARY.encode() * 20,
    request(BODY, "Transfer-Encoding: chunked"),
    f"POST {PATH}:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    + f"5;{CANARY}\r\n{CANARY}\r\n{CANARY}\r\n".encode(),
    f"POST {PATH}:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {CANARY}\r\n\r\n".encode(),
    request(BODY, "Content-Encoding: gzip"),
    request(BODY, "Content-Encoding: deflate"),
    request(BODY, f"Content-Encoding: {CANARY}"),
    request(gzip.compress(BODY * 9)[:-9], "Content-Encoding: gzip"),
    request(BODY, f"X-Name: \0{CANARY}"),
    request(BODY, f"X Name: {CANARY}"),
    request(BODY, f": {CANARY}"),
    request(BODY, CANARY),
    request(BODY, f"Cookie: {CANARY}=\x7f\xff\r\n {CANARY}"),
    request(BODY, f"X-Long: {CANARY * 2000}"),
    request(BODY, f"Expect: {CANARY}"),
    request(BODY, f"Content-Length: {CANARY}"),
    request(BODY, path=f"{PATH}:predict?user={CANARY}"),
    request(BODY, path=f"{PATH}/labels/{CANARY}%zz%ff:predict"),
    request(BODY, path=f"{PATH}:predict?{CANARY}=%zz\xff\x01"),
    request(BODY, path=f"{PATH} {CANARY}:predict"),
    request(BODY, path=f"http://[{CANARY}/"),
    request(BODY, path=f"/{CANARY * 1000}"),
    request(BODY, method=CANARY),
    request(BODY, method=f"G\xffT {CANARY}"),
    request(BODY.replace(b"warm", b"hot"), path=f"{PATH}/versions/{CANARY}:predict"),
    request(BODY[:-1]),
    request(history(f"\ud800{CANARY}").encode("utf-8", "surrogatepass")),
    request(json.dumps({"instances": [{CANARY: 1}], "signature_name": CANARY}).encode()),
    request(json.dumps({"inputs": {"examples": [CANARY, {"b64": CANARY}]}}).encode()),
    request(json.dumps({"inputs": [CANARY]}).encode()),
    f"{CANARY}\r\n\r\n".encode(),
    f"POST {PATH}:predict HTTP/{CANARY}\r\n\r\n".encode(),
    f"POST {PATH}:predict HTTP/1.1\r\nHost: {CANARY}".encode(),
    CANARY.encode() * 10_000,
]


def send(host, port, payload):
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.settimeout(0.1)
        with contextlib.suppress(OSError):
            connection.sendall(payload)
            while connection.recv(65536):
                pass


def call(target, message, method=PREDICT, **metadata):
    with grpc.insecure_channel(target) as channel, contextlib.suppress(grpc.RpcError):
        channel.unary_unary(method)(message, timeout=30, metadata=[*metadata.items()])


def canary_messages():
    """Yields serialized PredictRequests that are refused, each with the canary in it."""
    record = CANARY.encode() + b"\xff"
    for name, array in (("history", [[CANARY]]), (CANARY, [[""]]), ("history", [[[CANARY]]])):
        message = warm_request()
        message.inputs[name].Clear()
        tensor_protos.encode(as_array(array, 7), message.inputs[name])
        message.inputs["exclude"].tensor_shape.dim[0].size = 7
        yield message.SerializeToString()
    message = warm_request()
    message.model_spec.signature_name = CANARY
    yield message.SerializeToString()
    message = warm_request()
    message.model_spec.signature_name = "serving_default"
    message.inputs.clear()
    tensor_protos.encode(as_array([record], 7), message.inputs["examples"])
    yield message.SerializeToString()
    yield record * 9


def test_no_byte_of_a_request_is_logged(base_path):
    arguments = ["--model_base_path", base_path, "--rest_api_port", "0", "--log_requests"]
    with serving(*arguments) as process:
        line = process.stdout.readline()
        target, rest = re.search(r"on (\S+) \(gRPC\), (\S+) \(REST\)", line).groups()
        for address in (target, rest):
            host, _, port = address.rpartition(":")
            for payload in PAYLOADS:
                send(host, int(port), payload)
        for message in canary_messages():
            call(target, message)
        call(target, warm_request().SerializeToString(), method=f"/{CANARY}/{CANARY}")
        call(target, warm_request().SerializeToString(), canary=CANARY, authorization=CANARY)
        for _ in range(300):
            send(host, int(port), PAYLOADS[5])
        host, _, port = rest.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=30)
        connection.sendall(request(BODY))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.close()
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert out == ""
    assert CANARY not in errors and CANARY.encode().hex() not in errors
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert "message of http" in events and "request" in events
    assert len(errors) < 60_000


def test_repeated_warnings_are_counted(monkeypatch):
    """60 of a kind are written in a period; the next period says how many were dropped."""
    stream, logger = io.StringIO(), logging.Logger("serving.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    limit = logs.RateLimit()
    handler.addFilter(limit)
    logger.addHandler(handler)
    repeat = lambda: logs.event(logger, logging.WARNING, "malformed", size=1)
    for _ in range(100):
        repeat()
    for _ in range(100):
        logger.info("a request")
    logger.error("another kind")
    monkeypatch.setattr(logs, "PERIOD_SECONDS", 0.0)
    repeat()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds == ["malformed"] * 60 + ["a request"] * 100 + ["another kind", "malformed"]
    assert lines[-1]["dropped"] == 40 and lines[-1]["size"] == 1


def test_each_event_has_its_own_count():
    """A flood of one warning does not drop another, through the handlers of the server."""
    stream, logger = io.StringIO(), logging.Logger("serving.test")
    logs._handle(logger, logging.StreamHandler(stream), logging.INFO)
    for _ in range(100):
        logs.event(logger, logging.WARNING, "first kind")
        logs.event(logger, logging.WARNING, "second kind")
    kinds = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert kinds == ["first kind", "second kind"] * 60


def test_messages_of_libraries_lose_their_text():
    stream, logger = io.StringIO(), logs.without_content("test_library")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    logger.addHandler(handler)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("could not read %s", CANARY, stack_info=True)
    line = json.loads(stream.getvalue())
    assert CANARY not in stream.getvalue()
    assert line["event"] == "message of test_library" and line["exception"] == "ValueError"
    assert line["place"].startswith("test_server_logs:")

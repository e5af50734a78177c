"""Runs the examples of docs/serving_client.md and of the clients' docstrings."""

import base64
import doctest
import json
import pathlib
import re
import urllib.request

import pytest
from google.protobuf import json_format

import serving.client
from serving.server.local_server import LocalServer

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "serving_client.md").read_text()
CLASSES = ["AsyncClient", "Client", "Recommendations", "ServingError", "SimulatedHistory"]


@pytest.fixture(scope="module")
def server(base_path):
    with LocalServer(base_path, port=0, rest_api_port=0) as running:
        yield running


@pytest.mark.parametrize("name", CLASSES)
def test_docstrings(server, name):
    docstring = getattr(serving.client, name).__doc__.replace("8500", str(server.port))
    test = doctest.DocTestParser().get_doctest(docstring, {}, name, None, None)
    assert test.examples
    report = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


def test_every_class_has_its_example():
    assert set(CLASSES) == {name for name in serving.client.__all__ if name != "ROWS"}


def test_client(server):
    """The first block, with the items and features of the tiny model."""
    block, *_ = re.findall(
        r"```python\n(from serving.client import Client\n.*?)```", TEXT, re.DOTALL
    )
    exec(block.replace("8500", str(server.port)).replace("timeout=1.0", "timeout=30.0"), {})


def test_grpc(server, capsys):
    (block,) = re.findall(r"```python\n(import grpc\n.*?)```", TEXT, re.DOTALL)
    exec(block.replace("8500", str(server.port)).replace('"50", "181"', '"a", "b"'), {})
    assert "b'c' b'd' b'e'" in capsys.readouterr().out


def test_rest(server):
    bodies = re.findall(r"(http://\S+:predict) -d '(.*?)'", TEXT, re.DOTALL)
    assert len(bodies) == 2
    replacements = {
        "occupation": "genres",
        "writer": "b",
        '"zip": [""], ': "",
        '["b"]': '[["b"]]',
    }
    answers = []
    for url, body in bodies:
        for old, new in replacements.items():
            body = body.replace(old, new)
        url = url.replace("8501", str(server.rest_port)).replace("versions/3", "versions/12")
        request = urllib.request.Request(url, body.encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            answers.append(json.load(response))
    # The tiny model does not know the items 50 and 181.
    assert answers[0]["predictions"][0]["item_ids"] == ["a", "b", "c"]
    assert answers[1]["outputs"]["item_ids"] == [["e", "b", "a"]]


def test_grpcurl(server):
    """grpcurl's JSON is protobuf's own format, so the test does not need grpcurl to read it."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    (body,) = re.findall(r"-d '(\{\n  \"model_spec\".*?)' \\", TEXT, re.DOTALL)
    request = json_format.Parse(body, predict_pb2.PredictRequest())
    assert list(request.inputs["history"].string_val) == [b"50", b"181"]
    request.inputs["history"].string_val[1] = base64.b64decode("Yg==")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=30)
    assert list(response.outputs["item_ids"].string_val) == [b"c", b"a", b"d"]

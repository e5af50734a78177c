"""The examples of docs/serving_client.md that go without the client, against the local server."""

import base64
import json
import pathlib
import re
import urllib.request

import pytest
from google.protobuf import json_format

from serving.server.local_server import LocalServer

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "serving_client.md").read_text()


@pytest.fixture(scope="module")
def server(base_path):
    with LocalServer(base_path, port=0, rest_api_port=0) as running:
        yield running


def test_python(server, capsys):
    (block,) = re.findall(r"```python\n(import grpc\n.*?)```", TEXT, re.DOTALL)
    exec(block.replace("8500", str(server.port)).replace('"50", "181"', '"a", "b"'), {})
    assert "b'c' b'd' b'e'" in capsys.readouterr().out


def test_rest(server):
    bodies = re.findall(r"(http://\S+:predict) -d '(.*?)'", TEXT, re.DOTALL)
    assert len(bodies) == 2
    toy = {"occupation": "genres", "writer": "b", '"zip": [""], ': "", '["b"]': '[["b"]]'}
    found = []
    for url, body in bodies:
        for old, new in toy.items():
            body = body.replace(old, new)
        url = url.replace("8501", str(server.rest_port)).replace("versions/3", "versions/12")
        request = urllib.request.Request(url, body.encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            found.append(json.load(response))
    assert found[0]["predictions"][0]["item_ids"] == ["a", "b", "c"]  # it knows no 50 and 181
    assert found[1]["outputs"]["item_ids"] == [["e", "b", "a"]]


def test_grpcurl(server):
    """Its JSON is protobuf's own; grpcurl itself is not needed to read it."""
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

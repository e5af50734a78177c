"""Tests TensorFlow Serving's REST interface over the toy model of conftest.py."""

import base64
import json
import socket

import pytest

from cmclrec_tf.errors import InputError
from serving.contract import SIGNATURES
from serving.server.local_server import LocalServer
from serving.server.rest import with_defaults
from tests.serving.rest_requests import ANSWER, ROW, ask, predict

pytestmark = pytest.mark.usefixtures("still_answers")


def test_rows(rest):
    rows = [ROW, {"history": ["d", ""], "exclude": ["a"]}]
    assert predict(rest, {"signature_name": "warm", "instances": rows}) == (
        200,
        {"predictions": [ANSWER, {"item_ids": ["e", "b", "c"], "scores": [11.0, 4.0, 3.0]}]},
    )


def test_columns(rest):
    columns = {"gender": ["d", ""], "genres": [["b"], ["c"]], "age": [1, 0.5]}
    body = {"signature_name": "cold", "inputs": {**columns, "exclude": [[], []]}}
    assert predict(rest, body) == (
        200,
        {
            "outputs": {
                "item_ids": [["d", "b", "a"], ["c", "a", "b"]],
                "scores": [[22.0, 14.0, 5.0], [13.0, 5.0, 4.0]],
            }
        },
    )
    body["output_filter"] = ["scores"]
    assert predict(rest, body) == (200, {"outputs": [[22.0, 14.0, 5.0], [13.0, 5.0, 4.0]]})


def test_bytes_and_missing_numbers(rest, example):
    record = {"b64": base64.b64encode(example(history=["a"])).decode()}
    for body in ({"instances": [record]}, {"instances": [{"examples": record}]}):
        status, answer = predict(rest, body)
        assert status == 200
        assert answer["predictions"][0]["is_cold"] is False
        assert answer["predictions"][0]["item_ids"][0] == "b"
    assert predict(rest, {"inputs": [record]})[1]["outputs"]["item_ids"][0][0] == "b"
    text = '{"signature_name": "cold", "inputs": {"gender": [""], "genres": [[]], "age": [NaN], '
    status, answer = predict(rest, text + '"exclude": [[]]}}')
    assert status == 200 and answer["outputs"]["item_ids"] == [["a", "b", "c"]]


def test_lists_of_each_position(rest):
    row = {"gender": "d", "genres": ["b"], "age": 1}
    status, answer = predict(rest, {"signature_name": "simulated_history", "instances": [row]})
    assert status == 200 and answer == {
        "predictions": [
            {
                "item_ids": [["b", "a"], ["d", "a"]],
                "scores": [[0.5625, 0.078125], [0.53125, 0.078125]],
            }
        ]
    }


def test_versions_and_labels(rest):
    body = {"signature_name": "warm", "instances": [ROW]}
    assert predict(rest, body, "/versions/12")[0] == 200
    status, answer = predict(rest, body, "/versions/3")
    assert status == 404 and "Specific(cmclrec, 3)" in answer["error"]
    status, answer = predict(rest, body, "/labels/canary")
    assert status == 400 and "version label: canary" in answer["error"]
    status, answer = ask(rest, "POST", "/v1/models/other:predict", json.dumps(body))
    assert status == 404 and b"Latest(other)" in answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "JSON Parse error"),
        (b"\xff\xfe", "JSON Parse error"),
        ("[" * 100_000, "JSON Parse error"),
        ([1], "must be an object"),
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", "JSON Parse error"),
        ('{"instances": []}X', "JSON Parse error"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"examples": [ROW]}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [ROW], "inputs": ROW}, "Not formatted correctly"),
        ({"instances": ROW}, "must be a list"),
        ({"instances": []}, "at least one row"),
        ({"instances": [ROW], "signature_name": 3}, "`signature_name` must be a string"),
        ({"instances": [ROW], "signature_name": "\ud800"}, "`signature_name` must be a string"),
        ({"instances": [ROW], "signature_name": "hot"}, 'signature key "hot" not found'),
        ({"instances": [ROW], "signature_name": "warm", "output_filter": "a"}, "output_filter"),
        (
            {"instances": [ROW], "signature_name": "warm", "output_filter": ["\ud800"]},
            "`output_filter` must be a list of strings",
        ),
        ({"instances": [ROW], "signature_name": "warm", "output_filter": ["a"]}, "alias not found"),
        ({"instances": [ROW, {"history": ["a"]}], "signature_name": "warm"}, "same inputs"),
        ({"instances": [{"history": ["a"]}], "signature_name": "warm"}, "required: {exclude}"),
        ({"instances": [{**ROW, "age": 1}], "signature_name": "warm"}, "extra: {age}"),
        ({"instances": [ROW, ["a"]], "signature_name": "warm"}, "same inputs"),
        ({"instances": [["a"], ROW], "signature_name": "warm"}, "same inputs"),
        ({"instances": ["a"], "signature_name": "warm"}, "fit a signature of one input"),
        ({"inputs": [["a"]], "signature_name": "warm"}, "fit a signature of one input"),
        ({"inputs": {"history": [["a"]]}, "signature_name": "warm"}, "required: {exclude}"),
        (
            {"inputs": {"history": [["a"], ["a", "b"]], "exclude": [[], []]}},
            "input size does not match signature",
        ),
    ],
)
def test_invalid_bodies(rest, body, message):
    status, answer = predict(rest, body)
    assert status == 400
    assert message in answer["error"]
    assert "\n" not in answer["error"]


def test_ignored_keys_and_byte_order_mark(rest):
    """TensorFlow Serving ignores other keys of the body and of `inputs`, and a leading BOM."""
    columns = {"history": [["a", "b"]], "exclude": [[""]]}
    body = {"signature_name": "warm", "other": {"a": 1}}
    expected = 200, {"outputs": {name: [value] for name, value in ANSWER.items()}}
    assert predict(rest, {**body, "inputs": {**columns, "age": ["x"]}}) == expected
    raw = b"\xef\xbb\xbf" + json.dumps({**body, "inputs": columns}).encode()
    assert predict(rest, raw) == expected


def test_non_ascii_ids(rest):
    row = {"history": ["Амели\0", "\udcff", "a"], "exclude": [""]}
    status, answer = predict(rest, {"signature_name": "warm", "instances": [row]})
    assert status == 200 and answer["predictions"][0]["item_ids"][0] == "b"


def test_status_and_metadata(rest):
    for where in ("", "/versions/12"):
        status, text = ask(rest, "GET", f"/v1/models/cmclrec{where}")
        assert status == 200
        version = {"version": "12", "state": "AVAILABLE"}
        version["status"] = {"error_code": "OK", "error_message": ""}
        assert json.loads(text) == {"model_version_status": [version]}
        status, text = ask(rest, "GET", f"/v1/models/cmclrec{where}/metadata")
        answer = json.loads(text)
        assert status == 200 and answer["model_spec"]["version"] == "12"
        assert set(answer["metadata"]["signature_def"]["signature_def"]) == set(SIGNATURES)
    assert ask(rest, "GET", "/v1/models/other")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", 400, "Missing model name"),
        ("POST", "/v1/models", 400, "Malformed request"),
        ("GET", "/v1/models/cmclrec:predict", 400, "Malformed request"),
        ("GET", "/v1/models/cmclrec/version/12:predict", 400, "Malformed request"),
        ("POST", "/v1/models/cmclrec/version/12:regress", 400, "Malformed request"),
        ("POST", "/v1/models/cmclrec/versions/HELLO:predict", 400, "Malformed request"),
        ("GET", "/v1/models/cmclrec/versions/%D9%A1%D9%A2", 400, "Malformed request"),
        ("GET", "/v1/models/cmclrec/versions/-1", 400, "Malformed request"),
        ("POST", f"/v1/models/cmclrec/versions/{2**64 - 1}:predict", 400, "Failed to convert"),
        ("GET", f"/v1/models/cmclrec/versions/{2**63}", 400, "Failed to convert"),
        ("GET", "/v1/models/cmclrec/versions/" + 5000 * "9", 400, "Failed to convert"),
        ("GET", f"/v1/models/cmclrec/versions/{2**63 - 1}", 404, "not found"),
        ("GET", "/v1/models/cmclrec/versions/0000012", 200, ""),
        ("GET", "/v1/models/cmclrec/versions/" + 30 * "0" + "12", 200, ""),
        ("GET", "/v1/models/cmclrec/versions/" + 30 * "0", 404, "not found"),
        ("GET", "/V1/Models/cmclrec/VERSIONS/12", 200, ""),
        ("GET", "/v1/models/%63mclrec?key=value", 200, ""),
        ("GET", "http://other.host:1/v1/models/cmclrec", 200, ""),
        ("GET", "/v1/modelshttp://other.host:1/cmclrec", 400, "Malformed request"),
        ("POST", "/v1/models/cmclrec:Predict", 400, "Malformed request"),
        ("POST", "/v1/models/cmclrec/metadata", 400, "Malformed request"),
        ("POST", "/v1/models/cmclrec/versions/12/labels/a:predict", 400, "Malformed request"),
        ("GET", "/v1/models/cmclrec/labels/a%21%2F%3A%3F%5B", 400, "label: a!/:?["),
        ("GET", "/v1/models/cmclrec/labels/%ff%zz", 400, "label: \ufffd%zz"),
        ("GET", "/v1/models/a%2Fb%3Ac", 404, "Latest(a/b:c)"),
        ("GET", "/v1/models/cmclrec/", 400, "Malformed request"),
        ("GET", "/v1/models/other", 404, "Latest(other)"),
        ("GET", "/", 404, "nothing here"),
        ("POST", "/index", 404, "nothing here"),
        ("PUT", "/v1/models/cmclrec:predict", 400, "Malformed request: PUT"),
        ("DELETE", "/v1/models/cmclrec", 400, "Malformed request: DELETE"),
        ("OPTIONS", "/v1/models/cmclrec", 400, "Malformed request: OPTIONS"),
        ("POST", "/v1/models/cmclrec:classify", 501, "classify is not served"),
        ("POST", "/v1/models/cmclrec:regress", 501, "regress is not served"),
    ],
)
def test_paths(rest, method, path, status, message):
    """As TensorFlow Serving answers, but that no query is part of a name and 501 for classify."""
    answer = ask(rest, method, path, "{}" if method == "POST" else None)
    assert answer[0] == status
    assert message in json.loads(answer[1]).get("error", "")


def test_default_values_are_in_the_json_of_every_protobuf():
    old = lambda message, including_default_value_fields=False, **options: (
        including_default_value_fields
    )
    new = lambda message, always_print_fields_with_no_presence=False, **options: (
        always_print_fields_with_no_presence
    )
    assert with_defaults(old)(None) and with_defaults(new)(None)


def test_a_body_over_the_limit(base_path):
    from serving.server.limits import Limits

    limits = Limits(message_bytes=1000)
    with LocalServer(base_path, port=0, rest_api_port=0, limits=limits) as server:
        body = {"signature_name": "warm", "instances": [ROW]}
        assert predict(server, body)[0] == 200
        status, answer = predict(server, {**body, "signature_name": "x" * 1000})
        assert status == 413 and "1000 bytes" in answer["error"]


def test_a_body_that_does_not_arrive(base_path):
    head = b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"
    with (
        LocalServer(base_path, port=0, rest_api_port=0, rest_api_timeout_in_ms=300) as server,
        socket.create_connection((server.host, server.rest_port), timeout=30) as slow,
    ):
        slow.sendall(head)
        assert b"408" in slow.recv(4096).splitlines()[0]


def test_port_in_use(rest, base_path):
    with pytest.raises(InputError, match="in use"):
        LocalServer(base_path, port=0, rest_api_port=rest.rest_port)

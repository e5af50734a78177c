"""Tests how the REST interface reads the values of a request: lists, numbers and base64."""

import math
import time

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import rest_json
from serving.server.requests import RequestError
from tests.serving.rest_requests import ANSWER, predict

pytestmark = pytest.mark.usefixtures("still_answers")


def nested(depth):
    value = "a"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([["a"], ["a", "b"]], "of one length and depth"),
        ([["a"], "b"], "of one length and depth"),
        ([[["a"]], [["b"]]], "has shape [2, 1, 1]"),
        (["a", "b"], "has shape [2]"),
        (nested(32), "has shape [1, 1, "),
        (nested(33), "nest 33 deep, at most 32"),
        (nested(70), "nest 70 deep, at most 32"),
        ([[1], [2]], "is JSON int: it must be string"),
        ([[{"b64": "?"}], ["b"]], "not base64"),
        ([[{"b65": "YQ=="}], ["b"]], "is JSON dict"),
        ([[None], ["b"]], "is JSON NoneType"),
    ],
)
def test_invalid_values(rest, history, message):
    body = {"signature_name": "warm", "inputs": {"history": history, "exclude": [[""], [""]]}}
    status, answer = predict(rest, body)
    assert status == 400
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("age", "message"),
    [
        (["old"], "JSON str"),
        ([True], "JSON bool"),
        ([None], "JSON NoneType"),
        ([10**400], "loss of precision"),
        ([2**24], "loss of precision"),
        ([-(2**24)], "loss of precision"),
        ([1.7976931348623157e308], "loss of precision"),
        ([1, [1]], "of one length and depth"),
    ],
)
def test_invalid_numbers(rest, age, message):
    body = {"gender": [""], "genres": [[]], "age": age, "exclude": [[]]}
    status, answer = predict(rest, {"signature_name": "cold", "inputs": body})
    assert status == 400 and message in answer["error"]
    assert "old" not in answer["error"].replace("fold", "")


def test_numbers_that_float32_holds():
    info = meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_FLOAT)
    info.tensor_shape.dim.add(size=-1)
    numbers = [2**24 - 1, 1e300 - 1e300, 3.4e38, math.inf, -math.inf, math.nan]
    expected = np.array(numbers, np.float32)
    np.testing.assert_array_equal(rest_json.decode_lists("age", info, numbers), expected)


@pytest.mark.parametrize("text", ["YQ==", " Y Q\t=\n=", "YQ", "YQ..", "Y\r\nQ=="])
def test_forms_of_base64(rest, text):
    """Base64 with white space, with either padding, or without it, as TensorFlow Serving reads."""
    row = {"history": [{"b64": text}, "b"], "exclude": [""]}
    status, answer = predict(rest, {"signature_name": "warm", "instances": [row]})
    assert (status, answer) == (200, {"predictions": [ANSWER]})


@pytest.mark.parametrize("text", ["?", "Y", "YQ=", "YQ===", "YWI==", "Y=Q=", "YQ==YQ==", "Ý Q"])
def test_wrong_base64(rest, text):
    row = {"history": [{"b64": text}, "b"], "exclude": [""]}
    status, answer = predict(rest, {"signature_name": "warm", "instances": [row]})
    assert status == 400 and "not base64" in answer["error"]


def test_much_padding_takes_little_time():
    info = meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_STRING)
    info.tensor_shape.dim.add(size=-1)
    start = time.monotonic()
    for text in ("=." * 2**21 + "A", "A" + "=." * 2**21):
        with pytest.raises(RequestError, match="not base64"):
            rest_json.decode_lists("history", info, [{"b64": text}])
    assert time.monotonic() - start < 1

"""Tests gRPC requests to a local server: answers computed by hand, and refused requests."""

import contextlib
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.contract import SIGNATURES

Code = grpc.StatusCode
NOTHING = [[""]]


@pytest.fixture(scope="module")
def channel(target):
    with grpc.insecure_channel(target, options=[("grpc.max_send_message_length", -1)]) as connected:
        yield connected


@pytest.fixture(scope="module")
def predictions(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(signature="warm", name="cmclrec", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        request.inputs[key].CopyFrom(proto)
    return request


def warm_request(history=(("a", "b"),), exclude=NOTHING, **spec):
    return predict_request("warm", history=history, exclude=exclude, **spec)


def arrays(response):
    return {name: tf.make_ndarray(proto).tolist() for name, proto in response.outputs.items()}


@contextlib.contextmanager
def refused(code, *texts):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() == code
    for text in texts:
        assert text in caught.value.details()
    assert "\n" not in caught.value.details()
    assert "Traceback" not in caught.value.details()


@pytest.fixture(autouse=True)
def still_answers(predictions):
    """After every test the server still answers a valid request."""
    yield
    assert arrays(predictions.Predict(warm_request(), timeout=30))["item_ids"] == [
        [b"c", b"d", b"e"]
    ]


def test_predict(predictions):
    response = predictions.Predict(warm_request([["a", "b"], ["d", ""]], [[""], ["a"]]), timeout=30)
    assert response.model_spec.name == "cmclrec"
    assert response.model_spec.version.value == 12
    assert response.model_spec.signature_name == "warm"
    assert arrays(response) == {
        "item_ids": [[b"c", b"d", b"e"], [b"e", b"b", b"c"]],
        "scores": [[13, 2, 1], [11, 4, 3]],
    }


def test_default_signature_is_serving_default(predictions, example):
    request = predict_request("", examples=[example(history=["a"]), example(gender=["d"])])
    response = predictions.Predict(request, timeout=30)
    assert response.model_spec.signature_name == "serving_default"
    assert arrays(response)["is_cold"] == [False, True]
    assert [row[0] for row in arrays(response)["item_ids"]] == [b"b", b"d"]


def test_output_filter(predictions):
    request = warm_request()
    request.output_filter.append("scores")
    assert list(predictions.Predict(request, timeout=30).outputs) == ["scores"]
    request.output_filter.append("scores")
    with refused(Code.INVALID_ARGUMENT, "duplicate output tensor alias"):
        predictions.Predict(request, timeout=30)
    del request.output_filter[:]
    request.output_filter.append("nothing")
    with refused(Code.INVALID_ARGUMENT, "output tensor alias not found", "nothing", "scores"):
        predictions.Predict(request, timeout=30)


def test_content_and_broadcast(predictions):
    """A TensorProto may contain raw bytes, or one value for many elements."""
    age = tensor_pb2.TensorProto(dtype=1, tensor_content=np.array([3, 7], "<f4").tobytes())
    age.tensor_shape.dim.add(size=2)
    gender = tensor_pb2.TensorProto(dtype=7, string_val=[b"c"])
    gender.tensor_shape.dim.add(size=2)
    nothing = tensor_pb2.TensorProto(dtype=7)
    for size in (2, 1):
        nothing.tensor_shape.dim.add(size=size)
    request = predict_request("cold", gender=gender, genres=nothing, age=age, exclude=nothing)
    assert arrays(predictions.Predict(request, timeout=30)) == {
        "item_ids": [[b"c", b"a", b"b"], [b"c", b"e", b"a"]],
        "scores": [[23, 5, 4], [23, 8, 5]],
    }


def test_no_rows(predictions):
    request = warm_request(np.empty((0, 2), object), np.empty((0, 1), object))
    for name in ("history", "exclude"):
        assert request.inputs[name].dtype == 7
    assert arrays(predictions.Predict(request, timeout=30))["item_ids"] == []


def test_unknown_model_and_version(predictions, models):
    with refused(Code.NOT_FOUND, "Servable not found for request: Latest(other)", "cmclrec"):
        predictions.Predict(warm_request(name="other"), timeout=30)
    request = warm_request()
    request.model_spec.version.value = 3
    with refused(Code.NOT_FOUND, "Specific(cmclrec, 3)", "version 12"):
        predictions.Predict(request, timeout=30)
    request.model_spec.version.value = 12
    predictions.Predict(request, timeout=30)
    request.model_spec.version_label = "canary"
    with refused(Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"):
        predictions.Predict(request, timeout=30)
    with refused(Code.INVALID_ARGUMENT, "ModelSpec has no name"):
        predictions.Predict(warm_request(name=""), timeout=30)
    with refused(Code.INVALID_ARGUMENT, "Missing ModelSpec"):
        predictions.Predict(predict_pb2.PredictRequest(), timeout=30)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "other"
    with refused(Code.NOT_FOUND, "other"):
        models.GetModelStatus(status, timeout=30)


def test_unknown_signature(predictions):
    with refused(Code.FAILED_PRECONDITION, 'Serving signature key "hot" not found', "'cold'"):
        predictions.Predict(predict_request("hot"), timeout=30)


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        ({"history": NOTHING}, ["input size does not match signature", "required: {exclude}"]),
        (
            {"history": NOTHING, "exclude": NOTHING, "age": [1.0]},
            ["input size does not match signature", "extra: {age}"],
        ),
        ({"history": NOTHING, "excluded": NOTHING}, ["alias not found in signature: excluded"]),
        ({"history": [[1.0]], "exclude": NOTHING}, ["'history' is float", "must be string"]),
        ({"history": ["a"], "exclude": NOTHING}, ["'history' has shape [1]", "[-1, -1]"]),
        (
            {"history": [["a"], ["b"]], "exclude": NOTHING},
            ["equal 0th-dimension size", "'exclude': 1", "'history': 2"],
        ),
        ({"history": [[""]] * 4097, "exclude": [[""]] * 4097}, ["4097 rows", "4096"]),
    ],
)
def test_wrong_inputs(predictions, inputs, texts):
    with refused(Code.INVALID_ARGUMENT, *texts):
        predictions.Predict(predict_request("warm", **inputs), timeout=30)


def shaped(sizes, **fields):
    proto = tensor_pb2.TensorProto(dtype=7, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "text"),
    [
        (shaped([1, 2**40], string_val=[b"a"]), "at most"),
        (shaped([2**62, 2**62], string_val=[b"a"]), "at most"),
        (shaped([1, -5]), "the shape is unknown"),
        (shaped([1, 1], string_val=[b"a", b"b"]), "2 values for shape [1, 1]"),
        (shaped([1, 1], tensor_content=b"abcd"), "4 bytes of content"),
        (shaped([1024, 1024], string_val=[b"x" * 1000]), "one value repeated"),
    ],
)
def test_malformed_tensors(predictions, proto, text):
    with refused(Code.INVALID_ARGUMENT, "tensor parsing error: history", text):
        predictions.Predict(warm_request(history=proto), timeout=30)


def test_malformed_examples(predictions):
    with refused(Code.INVALID_ARGUMENT):
        predictions.Predict(predict_request("", examples=[b"\xff" * 50_000]), timeout=30)


def test_malformed_bytes(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with refused(Code.INTERNAL):
        call(b"\xff\xff\xff\xff", timeout=30)


def test_long_text_in_an_error(predictions):
    with refused(Code.NOT_FOUND):
        predictions.Predict(warm_request(name="\u00e9" * 100_000), timeout=30)


def test_message_limit(predictions):
    for size, answered in ((5 * 2**20, True), (65 * 2**20, False)):
        request = warm_request([["x" * 2**16] * (size // 2**16) + ["a"]])
        if answered:
            assert arrays(predictions.Predict(request, timeout=30))["item_ids"][0][0] == b"b"
        else:
            with refused(Code.RESOURCE_EXHAUSTED):
                predictions.Predict(request, timeout=30)


def test_metadata(predictions):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "cmclrec"
    response = predictions.GetModelMetadata(request, timeout=30)
    assert response.model_spec.version.value == 12
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == set(SIGNATURES)
    request.metadata_field.append("other")
    with refused(Code.INVALID_ARGUMENT, "Metadata field other is not supported"):
        predictions.GetModelMetadata(request, timeout=30)
    del request.metadata_field[:]
    with refused(Code.INVALID_ARGUMENT, "at least one metadata_field"):
        predictions.GetModelMetadata(request, timeout=30)


def test_status(models):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "cmclrec"
    (status,) = models.GetModelStatus(request, timeout=30).model_version_status
    assert status.version == 12
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


def test_unimplemented_methods(predictions):
    with refused(Code.UNIMPLEMENTED):
        predictions.Classify(classification_pb2.ClassificationRequest(), timeout=30)


def test_concurrent_requests(predictions):
    wrong = []

    def ask(item, expected):
        for turn in range(20):
            if turn % 5 == 4:
                with refused(Code.FAILED_PRECONDITION):
                    predictions.Predict(predict_request("hot"), timeout=30)
            answer = arrays(predictions.Predict(warm_request([[item]]), timeout=30))
            if answer["item_ids"][0][0] != expected:
                wrong.append((item, answer))

    threads = [
        threading.Thread(target=ask, args=("abcd"[i % 4], b"bcde"[i % 4 : i % 4 + 1]))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

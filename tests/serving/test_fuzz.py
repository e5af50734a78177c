"""Tests that random requests are answered, or refused with TensorFlow Serving's statuses.

The slow suite runs about ten thousand requests, the quick suite a tenth of them.
"""

import json

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server import requests, rest_json
from serving.server.api import Api, as_request_errors
from serving.server.limits import Limits
from serving.server.prometheus_metrics import Metrics
from tests.serving.test_local_server import predict_request, warm_request

Code = grpc.StatusCode
REFUSALS = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION}
ANY = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
fuzzed = lambda cases: settings(
    max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=ANY
)

in_two_sizes = pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.slow)])

texts = st.one_of(st.sampled_from(["", "warm", "cold", "cmclrec", "history", "\0"]), st.text())
raw = st.one_of(st.sampled_from([b"", b"a", b"e", b"\0", b"\xff\xfe"]), st.binary(max_size=40))
sizes = st.one_of(st.integers(0, 4), st.sampled_from([-1, -(2**63), 2**31, 2**62, 2**63 - 1]))


@st.composite
def tensors(draw):
    """Draws TensorProtos, most of them nearly valid."""
    proto = tensor_pb2.TensorProto(dtype=draw(st.sampled_from([7, 7, 7, 1, 1, 9, 3, 10, 0, 2, 21])))
    for size in draw(st.lists(sizes, max_size=4)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.booleans()) and draw(st.booleans())
    proto.string_val.extend(draw(st.lists(raw, max_size=5)))
    proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    proto.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
    if draw(st.booleans()) and draw(st.booleans()):
        proto.tensor_content = draw(raw)
    return proto


def strings(rows, width):
    """Draws valid TensorProtos of strings [rows, width], or [rows] for a width of None."""
    shape = [rows] if width is None else [rows, width]
    count = rows * (1 if width is None else width)

    def to_proto(values):
        proto = tensor_pb2.TensorProto(dtype=7, string_val=values)
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        return proto

    return st.lists(raw, min_size=count, max_size=count).map(to_proto)


@st.composite
def predictions(draw):
    """Draws PredictRequests: a valid one with parts replaced, dropped or added."""
    rows = draw(st.integers(0, 5))
    signature = draw(st.sampled_from(["warm", "warm", "cold", "", "user_embedding"]))
    request = predict_request(signature)
    names = {
        "warm": {"history": draw(st.integers(0, 6)), "exclude": draw(st.integers(0, 3))},
        "cold": {"gender": None, "genres": 2, "exclude": 0},
    }.get(signature, {"examples": None})
    for name, width in names.items():
        request.inputs[name].CopyFrom(draw(strings(rows, width)))
    if signature == "cold":
        age = request.inputs["age"]
        age.dtype = 1
        age.tensor_shape.dim.add(size=rows)
        age.float_val.extend(draw(st.lists(st.floats(width=32), min_size=rows, max_size=rows)))
    for name in draw(st.lists(st.one_of(st.sampled_from([*names, "age"]), texts), max_size=2)):
        if draw(st.booleans()):
            request.inputs.pop(name, None)
        else:
            request.inputs[name].CopyFrom(draw(tensors()))
    if draw(st.booleans()) and draw(st.booleans()):
        request.model_spec.name = draw(texts)
        request.model_spec.signature_name = draw(texts)
    change = draw(st.integers(0, 9))
    if change == 0:
        request.model_spec.version.value = draw(st.integers(-(2**63), 2**63 - 1))
    elif change == 1:
        request.model_spec.version_label = draw(texts)
    elif change == 2:
        request.output_filter.extend(draw(st.lists(texts, max_size=3)))
    return request


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("b64"), inner)
    ),
    max_leaves=12,
)


@st.composite
def bodies(draw):
    """Draws JSON bodies, some of them valid."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.binary(max_size=60) | json_values.map(json.dumps).map(str.encode))
    value = st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=1, max_size=2)
    row = {"history": draw(value | json_values), "exclude": draw(value | json_values)}
    body = {"signature_name": draw(st.sampled_from(["warm", "warm", "cold", ""]))}
    body["inputs" if draw(st.booleans()) else "instances"] = row if draw(st.booleans()) else [row]
    return json.dumps(body).encode()


@pytest.fixture(scope="module")
def api(server):
    return Api(server._catalog, Metrics(), Limits())


def predict(api, request):
    with as_request_errors("Predict"):
        answer = api.predict(
            "grpc",
            request.model_spec,
            request.inputs,
            requests.decode_tensor,
            request.output_filter,
        )
    return answer


def check(ask):
    """Checks that the answer has one entry per row, or that the refusal is one line."""
    try:
        answer = ask()
    except requests.RequestError as error:
        assert error.code in REFUSALS, error
        assert error.details and "\n" not in error.details and "Traceback" not in error.details
        return None
    assert {len(array) for array in answer.outputs.values()} == {answer.rows}
    return answer


@pytest.fixture(autouse=True)
def still_answers(api):
    yield
    answer = predict(api, warm_request())
    assert answer.outputs["item_ids"].tolist() == [[b"c", b"d", b"e"]]


@in_two_sizes
def test_requests(api, share):
    outcomes = set()

    @fuzzed(6000 // share)
    @given(predictions())
    def run(request):
        answer = check(lambda: predict(api, request))
        outcomes.add(answer is None)

    run()
    assert outcomes == {True, False}


@in_two_sizes
def test_tensors(api, share):
    @fuzzed(1500 // share)
    @given(tensors(), tensors())
    def run(history, exclude):
        check(lambda: predict(api, predict_request("warm", history=history, exclude=exclude)))

    run()


@in_two_sizes
def test_records(api, example, share):
    whole = example(history=["a", "b"], gender=["c"], age=[3.0])

    @fuzzed(1500 // share)
    @given(st.binary(max_size=100), st.integers(0, len(whole)), st.integers(0, len(whole)))
    def run(noise, start, end):
        record = whole[:start] + noise + whole[end:]
        check(lambda: predict(api, predict_request("", examples=[record, whole])))

    run()


@in_two_sizes
def test_bodies(api, share):
    outcomes = set()

    @fuzzed(1500 // share)
    @given(bodies())
    def run(raw_body):
        def ask():
            with as_request_errors("REST"):
                body = rest_json.Body(raw_body, Limits())
                spec = predict_request(body.signature_name).model_spec
                answer = api.predict(
                    "rest", spec, body.inputs, rest_json.decode_lists, body.output_filter
                )
                json.dumps(rest_json.answer(answer.outputs, body.in_rows))
                return answer

        outcomes.add(check(ask) is None)

    run()
    assert outcomes == {True, False}


def test_bytes_on_the_wire(target):
    """Bytes that are no message get INTERNAL, which is gRPC's status; others are served."""
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        @fuzzed(200)
        @given(st.binary(max_size=80), st.integers(0, 60))
        def run(noise, cut):
            message = warm_request().SerializeToString()
            try:
                call(message[:cut] + noise + message[cut:], timeout=30)
            except grpc.RpcError as error:
                assert error.code() in REFUSALS | {Code.INTERNAL}
                assert "Traceback" not in error.details()

        run()
    assert predict_pb2.PredictRequest.FromString(warm_request().SerializeToString())

"""Tests what operators use: health, reflection, metrics, logs, limits and orderly stops."""

import json
import logging
import re
import threading
import time
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from cmclrec_tf.errors import InputError
from serving.client import Client, ServingError
from serving.server import logs
from serving.server.limits import Limits
from serving.server.local_server import LocalServer
from serving.server.server_options import Options
from tests.serving.eventually import eventually
from tests.serving.test_local_server import predict_request, refused, warm_request

Code = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def running(base_path):
    with LocalServer(base_path, port=0, rest_api_port=0) as server:
        yield server


def channel_of(server):
    return grpc.insecure_channel(f"{server.host}:{server.port}")


def metric(server, name, **labels):
    """Returns the sum of a metric over all series with these labels."""
    with urllib.request.urlopen(
        f"http://{server.host}:{server.rest_port}/monitoring/prometheus/metrics"
    ) as answer:
        text = answer.read().decode()
    total = 0.0
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match:
            series = dict(re.findall(r'(\w+)="(.*?)"', match[1] or ""))
            if all(series.get(key) == value for key, value in labels.items()):
                total += float(match[2])
    return total


def test_health(running):
    with channel_of(running) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "tensorflow.serving.PredictionService"):
            assert check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with refused(Code.NOT_FOUND):
            check(health_pb2.HealthCheckRequest(service="nothing"))


def test_reflection(running):
    with channel_of(running) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="tensorflow.serving.PredictionService"
            ),
        ]
        listed, file = ask(iter(requests))
        names = {service.name for service in listed.list_services_response.service}
        assert {"tensorflow.serving.PredictionService", "grpc.health.v1.Health"} <= names
        assert file.file_descriptor_response.file_descriptor_proto


def test_metrics(running):
    labels = {"model": "cmclrec", "version": "12", "signature": "warm", "status": "OK"}
    requests = "cmclrec_serving_requests_total"
    before = metric(running, requests, **labels)
    with Client(f"{running.host}:{running.port}", timeout=30.0) as client:
        client.warm([["a"], ["b"]])
        with pytest.raises(ServingError):
            Client(f"{running.host}:{running.port}", "no such model", timeout=30.0).warm([["a"]])
    assert metric(running, requests, **labels) == before + 1
    assert metric(running, requests, status="NOT_FOUND", model="") == 1
    assert metric(running, "cmclrec_serving_request_rows_sum", signature="warm") >= 2
    assert metric(running, "cmclrec_serving_request_seconds_count", interface="grpc") >= 2
    assert metric(running, "cmclrec_serving_version_available", version="12") == 1
    assert metric(running, "cmclrec_serving_loads_total", result="loaded") == 1
    assert metric(running, "cmclrec_serving_requests_in_flight") == 0


def test_monitoring_config_moves_or_switches_off_the_metrics(base_path, tmp_path):
    path = tmp_path / "monitoring.config"
    for text, status in (
        ('prometheus_config { enable: true path: "/metrics" }', 200),
        ('prometheus_config { enable: false path: "/metrics" }', 404),
    ):
        path.write_text(text)
        with LocalServer(
            base_path, port=0, rest_api_port=0, monitoring_config_file=str(path)
        ) as server:
            url = f"http://{server.host}:{server.rest_port}/metrics"
            try:
                with urllib.request.urlopen(url) as answer:
                    assert answer.status == status
            except urllib.error.HTTPError as error:
                assert error.code == status


def test_logs_contain_no_user_data(base_path, example, caplog):
    """With log_requests every request is logged as JSON, without its content."""
    caplog.set_level(logging.INFO, logger="serving")
    with LocalServer(base_path, port=0, log_requests=True) as server:
        with Client(f"{server.host}:{server.port}", timeout=30.0) as client:
            client.warm([["secret-item"]], exclude=[["secret-too"]])
            client.cold([{"gender": "secret-gender"}])
        with channel_of(server) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with refused(Code.INVALID_ARGUMENT):
                broken = example(gender=["secret"]) + b"secret\xff"
                stub.Predict(predict_request("", examples=[broken]), timeout=30)
    lines = [json.loads(logs.JsonLines().format(record)) for record in caplog.records]
    logged = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in logged] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert [line["signature"] for line in logged] == ["warm", "cold", "serving_default"]
    assert logged[0]["rows"] == 1 and logged[0]["version"] == 12
    assert logged[0]["milliseconds"] > 0
    assert "version available" in {line["event"] for line in lines}
    assert "secret" not in json.dumps(lines)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"rows": 1}, "at most 1 are served in one request"),
        ({"list_length": 1}, "'history' has 2 values in a row: at most 1"),
        ({"string_bytes": 3}, "'history' has a string of 4 bytes: at most 3"),
        ({"record_bytes": 3}, "'examples' has a string of 4 bytes: at most 3"),
    ],
)
def test_limits(base_path, limits, message):
    with (
        LocalServer(base_path, port=0, limits=Limits(**limits)) as server,
        channel_of(server) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(warm_request([["b"]]), timeout=30)
        request = warm_request([["b", "1234"], ["a", ""]], [[""], [""]])
        if "record_bytes" in limits:
            request = predict_request("", examples=[b"1234"])
        with refused(Code.INVALID_ARGUMENT, message):
            stub.Predict(request, timeout=30)


def test_message_limit(base_path):
    with (
        LocalServer(base_path, port=0, limits=Limits(message_bytes=5000)) as server,
        channel_of(server) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(warm_request([["b"]]), timeout=30)
        with refused(Code.RESOURCE_EXHAUSTED):
            stub.Predict(warm_request([["b" * 5000]]), timeout=30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_system_poll_wait_seconds": -1}, "file_system_poll_wait_seconds=-1"),
        ({"grpc_max_threads": 0}, "grpc_max_threads=0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(InputError, match=message):
        Options(**options)
    with pytest.raises(InputError, match="rows=0"):
        Limits(rows=0)


def test_stop_waits_for_requests_under_way(base_path):
    """Requests under way are answered, new requests are refused."""
    server = LocalServer(base_path, port=0).start()
    entered, release, outcomes = threading.Event(), threading.Event(), []
    with server._catalog.lease(warm_request().model_spec) as servable:
        real = servable.session.run

    def held(*arguments):
        entered.set()
        assert release.wait(30)
        return real(*arguments)

    servable.session.run = held
    with (
        channel_of(server) as channel,
        Client(f"{server.host}:{server.port}", timeout=30.0) as client,
    ):
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest()).status == SERVING
        asking = threading.Thread(target=lambda: outcomes.append(client.warm([["a"]])))
        asking.start()
        assert entered.wait(30)
        stopping = threading.Thread(target=server.stop, args=[30])
        stopping.start()
        time.sleep(0.2)
        with refused(Code.UNAVAILABLE):
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(
                warm_request(), timeout=30
            )
        assert stopping.is_alive() and not outcomes
        release.set()
        stopping.join(30)
        asking.join(30)
    assert not stopping.is_alive()
    assert outcomes[0][0].item_ids[0] == "b"


def test_expired_requests_are_not_run(running):
    from serving.server import requests
    from serving.server.api import Api
    from serving.server.prometheus_metrics import Metrics

    metrics = Metrics()
    api = Api(running._catalog, metrics, Limits())
    request = warm_request()
    with pytest.raises(requests.RequestError) as caught:
        api.predict(
            "grpc",
            request.model_spec,
            request.inputs,
            requests.decode_tensor,
            (),
            lambda: requests.check_wanted(time.monotonic() - 1),
        )
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert b'status="DEADLINE_EXCEEDED"' in metrics.text()


def test_failed_loads_are_counted(push, tmp_path):
    base = tmp_path / "cmclrec"
    push(base, 1)
    with LocalServer(base, port=0, rest_api_port=0, file_system_poll_wait_seconds=0.05) as server:
        push(base, 2, damage=lambda folder: (folder / "saved_model.pb").write_bytes(b"no"))
        eventually(lambda: metric(server, "cmclrec_serving_loads_total", result="failed") == 1)
        assert metric(server, "cmclrec_serving_version_available", version="1") == 1

"""Tests that a server stops in time, whatever runs: requests, a load, its own start."""

import contextlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.client import Client
from serving.server import loader
from serving.server.local_server import LocalServer
from tests.serving.eventually import eventually
from tests.serving.test_local_server import refused, warm_request

# As `cmclrec serve`, but a request with the item "hang" does not end.
SERVE = """
import time
from cmclrec_tf.cli import CommandGroups
from serving.c_api.session import SavedModelSession
from serving.commands import serve

run = SavedModelSession.run

def hanging(self, name, inputs, outputs=None):
    if b"hang" in inputs.get("history", ()):
        time.sleep(600)
    return run(self, name, inputs, outputs)

SavedModelSession.run = hanging

class Root(CommandGroups):
    def get_command(self, ctx, name):
        return serve.serve

Root(name="cmclrec")()
"""

BODY = json.dumps({"signature_name": "warm", "instances": [{"history": ["a"], "exclude": [""]}]})


class Held:
    """A stand-in for a function that waits in front of the real one until `release` is set."""

    def __init__(self, real):
        self.real, self.entered, self.release = real, threading.Event(), threading.Event()

    def __call__(self, *arguments):
        self.entered.set()
        assert self.release.wait(60)
        return self.real(*arguments)


def hold_requests(server):
    with server._catalog.lease(warm_request().model_spec) as servable:
        servable.session.run = held = Held(servable.session.run)
    return held, servable


def rest_predict(host, port):
    url = f"http://{host}:{port}/v1/models/cmclrec:predict"
    with urllib.request.urlopen(url, BODY.encode(), timeout=30) as answer:
        return answer.status


def test_both_interfaces_refuse_while_one_has_a_request_under_way(base_path):
    with LocalServer(base_path, port=0, rest_api_port=0) as server:
        held, _ = hold_requests(server)
        statuses, keeping = [], http.client.HTTPConnection(server.host, server.rest_port)

        def ask():
            with contextlib.closing(keeping):
                keeping.request("POST", "/v1/models/cmclrec:predict", BODY)
                answer = keeping.getresponse()
                statuses.append((answer.status, answer.getheader("Connection")))

        asking = threading.Thread(target=ask)
        asking.start()
        assert held.entered.wait(30)
        stopping = threading.Thread(target=server.stop, args=[30])
        stopping.start()
        with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            time.sleep(0.2)
            with refused(grpc.StatusCode.UNAVAILABLE):
                predict(warm_request(), timeout=5)
        with pytest.raises(urllib.error.URLError, match="refused"):
            rest_predict(server.host, server.rest_port)
        assert stopping.is_alive()
        held.release.set()
        stopping.join(30)
        asking.join(30)
    # A caller that keeps connections opens a new one for its next request.
    assert statuses == [(200, "close")] and not stopping.is_alive()


def test_stop_returns_in_time_and_what_still_runs_is_freed_later(push, tmp_path, monkeypatch):
    base = tmp_path / "cmclrec"
    push(base, 1)
    server = LocalServer(base, port=0, file_system_poll_wait_seconds=0.05).start()
    held, servable = hold_requests(server)
    sessions, load = [], Held(loader.check_warmup)

    def loading(folder, session, limits):
        sessions.append(session)
        load(folder, session, limits)

    monkeypatch.setattr(loader, "check_warmup", loading)
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        answer = predict.future(warm_request(), timeout=60)
        assert held.entered.wait(30)
        push(base, 2, other=True)
        assert load.entered.wait(30)
        started = time.monotonic()
        server.stop(0.5)
        assert time.monotonic() - started < 4
        assert answer.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    is_open = lambda: (servable.session._session is not None, sessions[0]._session is not None)
    assert is_open() == (True, True)
    held.release.set()
    load.release.set()
    eventually(lambda: is_open() == (False, False))
    assert server.version is None


@contextlib.contextmanager
def serving(base_path):
    """Runs SERVE in a child process."""
    command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--rest_api_port", "0"]
    process = subprocess.Popen(
        [*command, "--model_base_path", str(base_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process):
    """Returns (exit status, seconds until it ended, standard output and standard error)."""
    started = time.monotonic()
    out, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, time.monotonic() - started, out, errors


def hang(address):
    """Sends a request that does not end, in a thread."""
    client = Client(address, timeout=100.0)

    def ask():
        with contextlib.suppress(Exception), client:
            client.warm([["hang"]])

    threading.Thread(target=ask, daemon=True).start()


def stop_while_a_request_hangs(process):
    """Sends SIGTERM during a request that does not end; returns the REST address."""
    address, rest = addresses(process)
    hang(address)
    eventually(lambda: in_flight(rest) == "1")
    process.send_signal(signal.SIGTERM)
    return rest


def in_flight(rest):
    url = f"http://{rest}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return re.search(r"^cmclrec_serving_requests_in_flight (\d+)", text, re.MULTILINE)[1]


def addresses(process):
    return re.findall(r"127\.0\.0\.1:\d+", process.stdout.readline())


def test_a_signal_during_the_start_ends_it_at_once(base_path):
    with serving(base_path) as process:
        # TensorFlow is being imported: the main thread alone could not act on a signal.
        maps = pathlib.Path(f"/proc/{process.pid}/maps")
        if not maps.exists():
            pytest.skip("reads /proc")
        eventually(lambda: "libtensorflow_framework" in maps.read_text(), seconds=60)
        process.send_signal(signal.SIGTERM)
        status, seconds, out, _ = ended(process)
    assert (status, out) == (143, "")
    assert seconds < 5


@pytest.mark.slow
def test_the_second_signal_ends_it_at_once(base_path):
    with serving(base_path) as process:
        rest = stop_while_a_request_hangs(process)
        time.sleep(0.5)
        assert process.poll() is None  # it waits for the request
        with pytest.raises(urllib.error.URLError, match="refused"):
            in_flight(rest)
        process.send_signal(signal.SIGINT)
        status, seconds, _, _ = ended(process)
    assert status == 130
    assert seconds < 3


@pytest.mark.slow
def test_a_request_that_does_not_end_is_cut_off(base_path):
    with serving(base_path) as process:
        stop_while_a_request_hangs(process)
        status, seconds, _, errors = ended(process)
    assert status == 0
    assert 4.5 < seconds < 8
    assert '"event": "requests cut off", "model": "cmclrec", "version": 12, "requests": 1' in errors

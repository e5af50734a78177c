"""Tests which requests both clients retry, and for how long."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest

from serving.client import ServingError
from serving.server.local_server import LocalServer
from tests.serving.scripted import CALLERS, Script, playing

Code = grpc.StatusCode
pytestmark = pytest.mark.parametrize("call", CALLERS)
status = lambda client: client.status()
warm = lambda client: client.warm([["a"]])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.CANCELLED])
def test_failures_are_retried(call, code):
    script = Script(failures=2, code=code)
    with playing(script) as target:
        assert call(target, [status], timeout=10.0) == [{7: "AVAILABLE"}]
    assert script.seen == 3


@pytest.mark.parametrize(
    "code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.INVALID_ARGUMENT]
)
def test_other_codes_are_not_retried(call, code):
    script = Script(failures=1, code=code)
    with playing(script) as target:
        (error,) = call(target, [status])
    assert (script.seen, error.code) == (1, code)


def test_the_deadline_covers_all_retries(call):
    script = Script(failures=100)
    with playing(script) as target:
        started = time.monotonic()
        (error,) = call(target, [status], timeout=0.4)
        assert time.monotonic() - started < 1.0
    assert isinstance(error, ServingError)
    assert 1 < script.seen < 5


def test_the_budget_stops_a_storm(call):
    """Without a budget, 600 requests to a server that is down would become 3,000."""
    script = Script(failures=10**6)
    with playing(script) as target:
        errors = call(target, [status] * 600, at_once=60, timeout=20.0)
    assert {error.code for error in errors} == {Code.UNAVAILABLE}
    assert all("not today" in str(error) for error in errors)
    assert 600 < script.seen <= 800


def test_a_large_request_is_retried(call):
    """By default gRPC retries only requests of up to 256 KiB."""
    script = Script(failures=1)
    histories = [["item" * 64] * 20] * 200
    with playing(script) as target:
        (answer,) = call(target, [lambda client: client.warm(histories)], timeout=20.0)
    assert len(answer) == 200 and script.seen == 2


def test_clients_wait_for_a_server_that_starts_later(call):
    port, script = free_port(), Script()
    with contextlib.ExitStack() as stack:
        timer = threading.Timer(0.4, lambda: stack.enter_context(playing(script, port)))
        timer.start()
        answers = call(f"127.0.0.1:{port}", [status], timeout=20.0)
        timer.join()
    assert answers == [{7: "AVAILABLE"}]


def test_wait_for_ready_off(call):
    started = time.monotonic()
    (error,) = call(f"127.0.0.1:{free_port()}", [status], timeout=30.0, wait_for_ready=False)
    assert time.monotonic() - started < 5
    assert error.code == Code.UNAVAILABLE and "Start the server" in str(error)


def test_a_server_that_stops_and_starts_again(call, base_path):
    """Eight callers see no error while the local server restarts."""
    servers = [LocalServer(base_path, port=0).start()]

    def restart():
        time.sleep(0.2)
        servers[0].stop()
        time.sleep(0.6)
        servers.append(LocalServer(base_path, port=servers[0].port).start())

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        answers = answers_while(thread, call, f"127.0.0.1:{servers[0].port}", 800, at_once=8)
    finally:
        thread.join()
        servers[-1].stop()
    assert {answer[0].item_ids[0] for answer in answers} == {"b"}


def answers_while(thread, call, target, requests, at_once):
    """Sends requests as long as a thread runs; returns the answers or raises the first error."""
    answers = []
    while thread.is_alive():
        answers += call(target, [warm] * requests, at_once=at_once, timeout=120.0)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@pytest.mark.slow
def test_a_server_that_is_killed(call, base_path):
    """32 callers see no error while a process of `cmclrec serve` is killed and restarted."""
    port = free_port()

    def start():
        code = "from serving.commands.serve import serve; serve()"
        options = ["--port", str(port), "--model_base_path", str(base_path)]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout.readline().startswith("Serving")
        return process

    processes = [start()]

    def restart():
        time.sleep(1.0)
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        processes.append(start())

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        answers = answers_while(thread, call, f"127.0.0.1:{port}", 3200, at_once=32)
    finally:
        thread.join()
        for process in processes:
            process.kill()
            process.communicate()
    assert {answer[0].item_ids[0] for answer in answers} == {"b"}

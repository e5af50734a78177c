"""Tests the load generator: the open loop, its requests and the whole load test."""

import asyncio
import json
import time

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.errors import ReadableError
from serving import contract
from serving.commands.loadtest import loadtest
from serving.load import load_report, measure, open_loop
from serving.load.process import ServerProcess
from serving.load.synthetic_requests import RequestMaker
from serving.server.local_server import LocalServer


class Slow:
    """A sender that answers one request at a time, each in `seconds`."""

    def __init__(self, seconds, status="OK"):
        self._seconds, self._status, self._lock = seconds, status, asyncio.Lock()

    async def send(self, message, timeout):
        async with self._lock:
            await asyncio.sleep(self._seconds)
        return self._status


def test_latency_includes_the_queue_of_a_slow_server():
    """At twice the rate that the server sustains, the queue and so the latency keep growing."""
    result = asyncio.run(open_loop.offer(Slow(0.02), [b""], 100, 1.0))
    assert result.sent == result.answered == 100
    # The last request waits for the hundred before it, half of which are done when it is sent.
    assert result.most > 500
    assert result.p50 > 150
    assert result.achieved < 60


def test_fast_server():
    result = asyncio.run(open_loop.offer(Slow(0.0), [b""], 200, 0.5))
    assert result.p50 < 15 and not result.errors
    assert 130 < result.offered < 300


def test_errors_are_counted_by_status():
    result = asyncio.run(open_loop.offer(Slow(0.0, "UNAVAILABLE"), [b""], 200, 0.1))
    assert result.errors == {"UNAVAILABLE": 20} and result.answered == 0
    step = measure.Step("warm", 1, result)
    assert not step.meets(1e9)
    assert "| 20 | none |" in load_report.table([step], 20.0)


@pytest.fixture(scope="module")
def requests(exported):
    return RequestMaker.from_warmup(exported.parent, "cmclrec")


def test_requests_of_every_signature(requests):
    assert requests.signatures == list(contract.SIGNATURES)
    warm = requests.make("warm", 32)
    assert warm.inputs["history"].tensor_shape.dim[0].size == 32
    assert len(set(warm.inputs["history"].string_val)) > 3
    again = RequestMaker(requests._templates, "cmclrec")
    other = RequestMaker(requests._templates, "cmclrec", seed=1)
    assert again.make("warm", 4) != other.make("warm", 4)


@pytest.mark.slow
def test_steps_by_rest(exported, requests):
    plan = measure.Plan({1: (20, 40), 32: (5,)}, seconds=0.3, p99_ms=1e4, interface="rest")
    with LocalServer(exported.parent, port=0, rest_api_port=0) as server:
        steps = measure.measure(f"http://{server.host}:{server.rest_port}", requests, plan)
    assert len(steps) == len(contract.SIGNATURES) * 3
    assert all(step.result.answered and not step.result.errors for step in steps)
    assert load_report.table(steps, 1e-3).count("| none |") == 2 * len(contract.SIGNATURES)


@pytest.mark.slow
def test_loadtest(exported, tmp_path):
    """The whole command answers every signature without an error."""
    result = CliRunner().invoke(
        loadtest,
        ["--model-base-path", str(exported.parent), "--seconds", "0.2", "--p99-ms", "0.1"]
        + ["--out", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "loadtest.json").read_text())
    series = {(s["signature"], s["rows"]) for s in report["steps"]}
    assert len(series) == len(contract.SIGNATURES) * 2
    assert not any(step["result"]["errors"] for step in report["steps"])
    assert all(step["result"]["answered"] for step in report["steps"])
    assert set(report["first_answers"]["true"]) == set(contract.SIGNATURES)
    assert (tmp_path / "loadtest.png").stat().st_size > 1000
    assert "| `warm` | 1 |" in (tmp_path / "loadtest.md").read_text()


def test_server_process_reports_why_it_does_not_start(tmp_path):
    with pytest.raises(ReadableError, match="must hold a version"):
        ServerProcess(tmp_path)


@pytest.mark.slow
def test_server_process_stops(base_path):
    with ServerProcess(base_path) as server:
        assert server.version == 12 and server.megabytes > 50
        assert 0.1 < server.processor_seconds < 1000
        start = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - start < 20


def test_flags_have_help():
    assert "open loop" in loadtest.get_help(click.Context(loadtest))

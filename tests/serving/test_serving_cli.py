"""Tests `cmclrec serve` from the shell."""

import contextlib
import re
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import CommandGroups
from serving.client import Client
from serving.commands import serve
from tests.conftest import one_quick

# The root group with this package's commands, even if the package is not installed.
ROOT = """
from cmclrec_tf.cli import CommandGroups
from serving.commands import serve

class Root(CommandGroups):
    def get_command(self, ctx, name):
        return {"serve": serve.serve}[name]

Root(name="cmclrec")()
"""


class Root(CommandGroups):
    def get_command(self, ctx, name):
        return {"serve": serve.serve}[name]


@contextlib.contextmanager
def serving(*arguments):
    """Runs `cmclrec serve` in a child process."""
    command = [sys.executable, "-c", ROOT, "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", one_quick([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_serve(base_path, example, number):
    """It prints its address, answers, logs no content of a request and stops on a signal."""
    import grpc
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    from serving import tensor_protos
    from serving.c_api.tensors import as_array

    with serving("--model_base_path", base_path, "--model_name", "toy") as process:
        line = process.stdout.readline()
        match = re.fullmatch(
            r"Serving toy version 12 on (127\.0\.0\.1:\d+) \(gRPC\); Ctrl-C stops\n", line
        )
        assert match, line
        with Client(match[1], model_name="toy", timeout=30.0) as client:
            assert client.cold([{"gender": "c"}])[0].item_ids[0] == "c"
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "toy"
            broken = example(gender=["confidential"]) + b"confidential\xff"
            tensor_protos.encode(as_array([broken], 7), request.inputs["examples"])
            with grpc.insecure_channel(match[1]) as channel, pytest.raises(grpc.RpcError):
                PredictionServiceStub(channel).Predict(request, timeout=30.0)
        started = time.monotonic()
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert time.monotonic() - started < 10
    assert process.returncode == 0, errors
    assert out == ""
    assert "confidential" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model_base_path", "gone"], "gone: the model base path must be a folder"),
        (["--host", "203.0.113.1"], "203.0.113.1"),
    ],
)
def test_serve_refuses(base_path, arguments, text):
    process = subprocess.run(
        [sys.executable, "-c", ROOT, "serve", "--port", "0"]
        + ["--model_base_path", str(base_path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode != 0
    assert text in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert process.stdout == ""


def test_serve_refuses_a_port_in_use(server, base_path):
    result = CliRunner().invoke(
        Root(name="cmclrec"),
        ["serve", "--port", str(server.port), "--model_base_path", str(base_path)],
    )
    assert result.exit_code != 0
    (line,) = result.output.splitlines()
    assert f"port {server.port} of 127.0.0.1: the port is in use" in line


def test_flags_have_help():
    text = serve.serve.get_help(click.Context(serve.serve))
    assert serve.serve.help.splitlines()[0] in text

"""`cmclrec serve` and `cmclrec recommend`, as a shell sees them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import Rooms
from serving import cli
from serving.client import Client, ServingError

# The root group over this room's commands, whether or not the package is installed.
ROOT = """
from cmclrec_tf.cli import Rooms
from serving import cli

class Root(Rooms):
    def get_command(self, ctx, name):
        return {"serve": cli.serve, "recommend": cli.recommend}[name]

Root(name="cmclrec")()
"""


class Root(Rooms):
    def get_command(self, ctx, name):
        return {"serve": cli.serve, "recommend": cli.recommend}[name]


def recommend(*arguments):
    return CliRunner().invoke(Root(name="cmclrec"), ["recommend", *arguments])


@contextlib.contextmanager
def serving(*arguments):
    """`cmclrec serve` in a process of its own."""
    command = [sys.executable, "-c", ROOT, "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_warm(target):
    done = recommend("warm", "--item", "a", "--item", "b", "-k", "2", "--target", target)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == ["  1  c  13.0000", "  2  d  2.0000"]


def test_cold(target):
    done = recommend(
        *("cold", "--feature", "age=3", "--feature", "gender=d", "--target", target),
        *("--feature", "genres=b", "--feature", "genres=c", "--exclude", "b"),
    )
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines()] == [
        ["1", "d", "22.0000"],
        ["2", "c", "13.0000"],
        ["3", "a", "5.0000"],
    ]


def test_nothing_left(target):
    excluded = [word for item in "abcde" for word in ("--exclude", item)]
    done = recommend("cold", *excluded, "--target", target)
    assert done.output == "No items are left to recommend.\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["cold", "--feature", "height=1"], "the model knows ['age', 'gender', 'genres']"),
        (["cold", "--feature", "age=old"], "it must be a number"),
        (["cold", "--feature", "gender=a", "--feature", "gender=b"], "it must be one string"),
        (["cold", "--feature", "age"], "NAME=VALUE"),
        (["warm", "--item", "a", "-k", "0"], "x>=1"),
        (["warm"], "--item"),
        (["warm", "--item", "a", "--model_name", "other"], "NOT_FOUND"),
    ],
)
def test_wrong_questions(target, arguments, text):
    done = recommend(*arguments, "--target", target)
    assert done.exit_code != 0
    assert text in done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


def test_no_server():
    """In a process of its own, so that whatever a terminal would show is seen."""
    done = subprocess.run(
        [sys.executable, "-c", ROOT, "recommend", "warm", "--item", "a", "--target", "127.0.0.1:1"],
        env={name: value for name, value in os.environ.items() if not name.startswith("TF_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:1: warm failed, UNAVAILABLE" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve(base_path, example, number):
    """It says where it listens, answers, logs nothing of a request and stops on a signal."""
    from tensorflow_serving.apis import predict_pb2

    from serving import tensor_protos
    from serving.c_tensors import as_array

    with serving("--model_base_path", base_path, "--model_name", "toy") as process:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Serving toy version 12 on (127\.0\.0\.1:\d+) \(gRPC\); Ctrl-C stops\n", line
        )
        assert found, line
        with Client(found[1], model_name="toy", timeout=30.0) as client:
            assert client.cold([{"gender": "c"}])[0].item_ids[0] == "c"
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "toy"
            broken = example(gender=["confidential"]) + b"confidential\xff"
            tensor_protos.encode(as_array([broken], 7), request.inputs["examples"])
            with pytest.raises(ServingError):
                client._call("predict", client._predictions.Predict, request)
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
    done = CliRunner().invoke(
        Root(name="cmclrec"),
        ["serve", "--port", str(server.port), "--model_base_path", str(base_path)],
    )
    assert done.exit_code != 0
    (line,) = done.output.splitlines()
    assert f"port {server.port} of 127.0.0.1: the port is in use" in line


def test_help_imports_no_tensorflow():
    code = f"""
import sys
sys.argv = ["cmclrec", "recommend", "warm", "--help"]
try:
    exec({ROOT!r})
except SystemExit:
    assert not {{"tensorflow", "grpc"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cmclrec recommend warm --item 50 --item 181 -k 10" in done.stdout


def test_flags_have_help():
    for command in (cli.serve, cli.recommend, *cli.recommend.commands.values()):
        text = command.get_help(click.Context(command))
        assert command.help.splitlines()[0] in text

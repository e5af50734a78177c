"""`cmclrec recommend`, as a shell sees it."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import Rooms
from serving import recommend_cli

# The root group over this room's commands, whether or not the package is installed.
ROOT = """
from cmclrec_tf.cli import Rooms
from serving import recommend_cli

class Root(Rooms):
    def get_command(self, ctx, name):
        return {"recommend": recommend_cli.recommend}[name]

Root(name="cmclrec")()
"""


class Root(Rooms):
    def get_command(self, ctx, name):
        return {"recommend": recommend_cli.recommend}[name]


def recommend(*arguments):
    return CliRunner().invoke(Root(name="cmclrec"), ["recommend", *arguments])


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
    for command in (recommend_cli.recommend, *recommend_cli.recommend.commands.values()):
        text = command.get_help(click.Context(command))
        assert command.help.splitlines()[0] in text

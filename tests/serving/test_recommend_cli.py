"""Tests `cmclrec recommend` as a shell runs it."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import CommandGroups
from serving.commands import recommend as command

# The root group with this command, whether or not the package is installed.
ROOT = """
from cmclrec_tf.cli import CommandGroups
from serving.commands import recommend as command

class Root(CommandGroups):
    def get_command(self, ctx, name):
        return {"recommend": command.recommend}[name]

Root(name="cmclrec")()
"""


class Root(CommandGroups):
    def get_command(self, ctx, name):
        return {"recommend": command.recommend}[name]


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
        (["warm", "--item", "a", "--model-name", "other"], "NOT_FOUND"),
    ],
)
def test_wrong_arguments(target, arguments, text):
    done = recommend(*arguments, "--target", target)
    assert done.exit_code != 0
    assert text in done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


def test_no_server():
    """The command prints one line, in a process of its own, so that all of its output counts."""
    arguments = ["recommend", "warm", "--item", "a", "--target", "127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", ROOT, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("TF_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:1: warm failed, UNAVAILABLE" in line


def test_user(target):
    options = ["--item", "d", "--feature", "gender=a", "--exclude", "e"]
    arguments = ["user", *options, "--target", target]
    done = recommend(*arguments)
    assert done.exit_code == 0, done.output
    assert [line.split()[1:] for line in done.output.splitlines()] == [
        ["a", "5.0000"],
        ["b", "4.0000"],
    ]
    (line,) = recommend(*arguments, "--json", "-k", "1").output.splitlines()
    assert json.loads(line) == {
        "item_ids": ["a"],
        "scores": [5.0],
        "version": 12,
        "signature": "serving_default",
        "is_cold": False,
    }
    (line,) = recommend(
        "user", "--json", "--target", target, "--model-version", "12"
    ).output.splitlines()
    assert json.loads(line)["signature"] == "cold"


LINES = [
    {"user_id": "u1", "history": ["a", "b"]},
    {"gender": "d", "genres": ["c", "e"], "age": 0.5},
    {"user_id": 3, "history": ["d"], "gender": "\u0416", "exclude": ["e"]},
    {},
]


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_many(target, tmp_path, monkeypatch, by):
    monkeypatch.setattr(command, "_CHUNK", 3)
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / "users.jsonl").write_text(text)
    source = ["--input", str(tmp_path / "users.jsonl")] if by == "file" else []
    done = CliRunner().invoke(
        Root(name="cmclrec"),
        ["recommend", "many", *source, "-k", "2", "--target", target],
        input=None if by == "file" else text,
    )
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.output.splitlines()]
    assert [answer.get("user_id") for answer in answers] == ["u1", None, 3, None]
    lists = [(answer["signature"], "".join(answer["item_ids"])) for answer in answers]
    assert lists == [("warm", "cd"), ("cold", "dc"), ("serving_default", "ab"), ("cold", "ab")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{secret", "user 4: its line must hold a JSON object"),
        ('["secret"]', "user 4: its line must hold a JSON object"),
        ("", "user 4: its line must hold a JSON object"),
        ("[" * 100_000, "user 4: its line must hold a JSON object"),
        ('{"age": "secret"}', "user feature 'age' of user 4 (a str)"),
        ('{"history": "secret"}', "history of user 4"),
        ('{"height": "secret"}', "user feature 'height' of user 4"),
    ],
)
def test_bad_lines(target, monkeypatch, line, text):
    monkeypatch.setattr(command, "_CHUNK", 2)
    done = CliRunner().invoke(
        Root(name="cmclrec"),
        ["recommend", "many", "--target", target],
        input=f"{{}}\n{{}}\n{{}}\n{line}\n",
    )
    assert done.exit_code == 2
    (error,) = done.stderr.splitlines()
    assert text in error and "secret" not in error
    assert len(done.stdout.splitlines()) == 2  # the answers before it remain


def test_missing_files(target, tmp_path):
    for options in (["--input", "gone.jsonl"], ["--root-certificates", str(tmp_path)]):
        done = recommend("many", *options, "--target", target)
        assert done.exit_code == 2 and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--model-version", "13"], "NOT_FOUND"),
        (["--version-label", "canary"], "canary"),
        (["--model-version", "12", "--version-label", "canary"], "a request names one of them"),
        (["--feature", "exclude=a"], "use --item and --exclude"),
    ],
)
def test_wrong_versions_and_options(target, options, text):
    done = recommend("user", *options, "--target", target)
    assert done.exit_code == 2
    assert text in done.output


def test_encryption_is_refused_by_a_plain_server(target):
    done = recommend("user", "--tls", "--target", target)
    assert done.exit_code == 2
    assert "UNAVAILABLE" in done.output


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
    for each in (command.recommend, *command.recommend.commands.values()):
        text = each.get_help(click.Context(each))
        assert each.help.splitlines()[0] in text

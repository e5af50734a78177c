"""Tests `cmclrec recommend` as a shell runs it."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import CommandGroups
from serving.client import Recommendations
from serving.commands import answer_text, user_lines
from serving.commands import recommend as command
from serving.server.local_server import LocalServer

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
        (["cold", "--feature", "gender=a", "--feature", "gender=b"], "it must be text or a number"),
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
        "known_items": None,
        "source": "history",
    }
    (line,) = recommend(
        "user", "--json", "--target", target, "--model-version", "12"
    ).output.splitlines()
    assert json.loads(line)["signature"] == "cold"


USERS = [
    {"user_id": "u1", "history": ["a", "b"]},
    {"gender": "d", "genres": ["c", "e"], "age": 0.5},
    {"user_id": 3, "history": ["d"], "gender": "\u0416", "exclude": ["e"]},
    {},
]


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_many(target, tmp_path, monkeypatch, by):
    monkeypatch.setattr(user_lines, "MAX_USERS", 3)
    text = "".join(json.dumps(line) + "\n" for line in USERS)
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
        ("\ufeff{}", "user 4: its line must hold a JSON object"),
        ("[" * 100_000, "user 4: its JSON is nested too deeply"),
        ('{"secret": "\\ud800"}', "user 4: its text has a lone surrogate"),
        ('{"history": ["secret\udcff"]}', "user 4: its line must be UTF-8, and byte 21 is not"),
        ('{"age": NaN, "history": ["secret"]}', "user 4: JSON has no NaN"),
        ('{"age": -Infinity}', "user 4: JSON has no NaN and no Infinity"),
        ('{"age": 1e999}', "user 4: its numbers must be ones that a double can hold"),
        (f'{{"age": 1{"0" * 5000}}}', "user 4: a number must have at most 400 digits"),
        ('{"age": 1e300}', "user feature 'age' of user 4 (a float): it must be a number that"),
        ('{"gender": "secret", "gender": "a"}', "user 4: its JSON must name each key once"),
        ('{"history": ["secret"], "user_id": ["a"]}', "user 4: its user_id must be a string"),
        ('{"gender": "secret", "genres": [{"a": 1}]}', "user feature 'genres' of user 4 (a dict)"),
        ('{"history": ["a", null, ["secret"]]}', "history of user 4 (a list)"),
        ('{"age": "secret"}', "user feature 'age' of user 4 (a str)"),
        ('{"history": "secret"}', "history of user 4"),
        ('{"height": "secret"}', "user feature 'height' of user 4"),
        # The server refuses it.
        (f'{{"history": ["a", "{"secret" * 11_000}"]}}', "a string of 66000 bytes"),
        (f'{{"history": ["{"secret" * 200_000}"]}}', "user 4: its line must have at most 1048576"),
    ],
)
def test_a_bad_line_gets_one_error_and_the_others_their_lists(target, line, text):
    lines = ['{"history": ["a"]}', '{"gender": "d"}', "{}", line, '{"history": ["a"], "age": 1}']
    done = CliRunner().invoke(
        Root(name="cmclrec"),
        ["recommend", "many", "--target", target, "-k", "1"],
        input="\r\n".join(lines).encode("utf-8", "surrogateescape"),
    )
    assert done.exit_code == 1
    assert done.stderr == 'error: 1 of 5 users have no list. See "error" in their lines.\n'
    answers = [json.loads(answer) for answer in done.stdout.splitlines()]
    bad = answers.pop(3)
    assert [answer["item_ids"] for answer in answers] == [["b"], ["d"], ["a"], ["b"]]
    assert set(bad) == {"error"} and text in bad["error"] and "secret" not in bad["error"]


def test_bytes_and_ids_of_lines(target):
    """Bytes that are not UTF-8 are written as in TensorFlow Serving's REST interface."""
    lines = '\ufeff{"user_id": "\\u00e4", "history": [{"b64": "/w=="}, "a"]}\n{"user_id": null}\n'
    done = CliRunner().invoke(
        Root(name="cmclrec"), ["recommend", "many", "--target", target, "-k", "1"], input=lines
    )
    assert done.exit_code == 0 and done.stdout.isascii()
    answers = [json.loads(answer) for answer in done.stdout.splitlines()]
    assert [(answer["user_id"], *answer["item_ids"]) for answer in answers] == [
        ("\u00e4", "b"),
        (None, "a"),
    ]
    answer = Recommendations(("\udcff", "\u00e4"), (1.0, float("nan")))
    assert json.loads(user_lines.answer_line(answer))["item_ids"] == [{"b64": "/w=="}, "\u00e4"]
    assert json.loads(user_lines.answer_line(answer))["scores"] == [1.0, None]


def test_a_closed_pipe_ends_the_command_quietly(target):
    process = subprocess.Popen(
        [sys.executable, "-c", ROOT, "recommend", "many", "--target", target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(b'{"history": ["a"]}\n' * 5000)
    process.stdin.close()
    assert json.loads(process.stdout.readline())["item_ids"][0] == "b"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_the_answer_says_that_no_item_is_known(exported):
    with LocalServer(exported.parent, port=0) as server:
        target = f"127.0.0.1:{server.port}"
        popular = recommend("warm", "--item", "zzz", "--item", "yyy", "--target", target)
        mixed = recommend("warm", "--item", "i1", "--item", "zzz", "--target", target)
        cold = recommend("user", "--item", "zzz", "--feature", "team=team-0", "--target", target)
        known = recommend("warm", "--item", "i1", "--target", target)
        as_json = recommend("warm", "--item", "zzz", "--json", "--target", target)
    note = "note: the model knows {} of {} items of the history; the list "
    assert popular.stderr == note.format(0, 2) + "is that of the most popular items.\n"
    assert mixed.stderr == note.format(1, 2) + "comes from them.\n"
    assert cold.stderr == note.format(0, 1) + "comes from the user features.\n"
    assert known.stderr == "" and as_json.stderr == ""
    answer = json.loads(as_json.stdout)
    assert (answer["known_items"], answer["source"]) == (0, "popular")


def test_ids_cannot_command_the_terminal(capsysbinary):
    items = ("\x1b[2Ja", "\udcff", "\u00e4")
    answer_text.print_answer(Recommendations(items, (3.0, 2.0, 1.0)), False)
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert [line.split()[1] for line in lines] == ["\ufffd[2Ja", "\ufffd", "\u00e4"]


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

"""The recommendations that the quickstart prints, and the commands that it suggests."""

import shlex
import shutil
import types

import pytest
from click.testing import CliRunner

from cmclrec_tf.errors import ReadableError

# In the worker that gets this file, a pipeline run of its own.
pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_the_suggested_command_works(first_run):
    from pipeline.commands import quickstart, run_report
    from serving.client import Client
    from serving.commands.recommend import recommend
    from serving.server.local_server import LocalServer

    hobbies = {"age": 1234567.0, "job": "nurse", "hobbies": ["chess", "a b"], "zip": "it's"}
    with LocalServer(str(first_run.folders.serving), "cmclrec", port=0) as server:
        target = f"127.0.0.1:{server.port}"
        for profile in (hobbies, quickstart.first_profile(first_run), {}):
            lines = run_report.next_commands(first_run, profile).splitlines()
            (line,) = (line for line in lines if "recommend cold" in line)
            words = shlex.split(line, comments=True)
            arguments = [*words[words.index("cold") :], "--target", target]
            result = CliRunner().invoke(recommend, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            with Client(target) as client:
                (expected,) = client.cold([profile], k=10)
            item_ids = tuple(row.split()[1] for row in result.output.splitlines())
            assert item_ids == expected.item_ids


def test_a_single_new_user_is_shown(first_run, tmp_path, capsys):
    import tensorflow as tf

    from pipeline.commands import quickstart
    from pipeline.storage.records import parse, read

    kept = tmp_path / "test.gz"
    cold = []
    with tf.io.TFRecordWriter(str(kept), "GZIP") as writer:
        for record in read(first_run.test_files):
            is_cold = parse(record)["segment"] == [b"cold"]
            cold += [record] if is_cold else []
            if not is_cold or len(cold) == 1:
                writer.write(record)
    assert len(cold) > 1
    names = ("spec", "data_dir", "folders", "pushed_version")
    run = types.SimpleNamespace(**{name: getattr(first_run, name) for name in names})
    run.test_files = [kept]
    quickstart.show_recommendations(run)
    shown = capsys.readouterr().out
    assert shown.count("is recommended") == 2 and shown.count("\nA new user") == 1
    assert quickstart.first_profile(run)


@pytest.mark.parametrize("older", [False, True])
def test_the_table_is_shown_even_if_the_model_cannot_be_served(first_run, setting, older):
    """A server falls back to an older version, which is not the one to show."""
    from pipeline.commands.cli import quickstart

    graph, other = (
        first_run.pushed_version / "saved_model.pb",
        first_run.pushed_version.with_name("1"),
    )
    content = graph.read_bytes()
    if older:
        shutil.copytree(first_run.pushed_version, other)
    graph.write_bytes(b"\x0b not a graph")
    try:
        result = setting.invoke(quickstart)
    finally:
        graph.write_bytes(content)
        shutil.rmtree(other, ignore_errors=True)
    assert isinstance(result.exception, ReadableError)
    for line in ("popularity, all events", "\nResults\n"):
        assert line in result.output
    assert "Try next" not in result.output

"""Bad input is reported in one line, before TFX is loaded."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from cmclrec_tf.config.sections import BACKBONES
from cmclrec_tf.errors import InputError
from pipeline.commands import cli
from tests.pipeline.toy_datasets import write_clusters

COMMANDS = (cli.run, cli.quickstart)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    return ["--dataset", str(write_clusters(folder)), "--data-dir", str(folder)]


def _error(command, *arguments):
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input(command, clusters, tmp_path):
    root = ("--root", tmp_path / "var")
    assert "must be one of" in _error(command, "--dataset", "movielens-7", *root)
    assert "only one of them" in _error(
        command, *clusters, "--preset", "default", "--config", "a.yaml", *root
    )
    assert "presets are" in _error(command, *clusters, "--preset", "absent", *root)
    assert "must exist" in _error(command, *clusters, "--config", tmp_path / "a.yaml", *root)
    config = tmp_path / "bad.yaml"
    config.write_text("finetune: {epochs: 0}")
    assert "it must be positive" in _error(command, *clusters, "--config", config, *root)
    config.write_text("data: {split: leave-one-out}")
    assert "the gate judges cold users" in _error(command, *clusters, "--config", config, *root)
    config.write_text("data: {split: time, split_time: noon}")
    assert "data.split_time='noon'" in _error(command, *clusters, "--config", config, *root)
    missing = [*clusters[:2], "--data-dir", tmp_path]
    assert "needs this file" in _error(command, *missing, *root)
    assert not (tmp_path / "var").exists()


def test_the_module_of_run_fn_can_register_a_backbone(tmp_path, monkeypatch):
    (tmp_path / "own_backbone.py").write_text(
        "from cmclrec_tf.config.sections import BACKBONES\n"
        "BACKBONES.add('own')\n"  # as `backbones.register` does
        "def run_fn(fn_args): pass\n"
    )
    (tmp_path / "own.yaml").write_text("model: {backbone: own}")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["--dataset", "absent", "--config", tmp_path / "own.yaml"]
    try:
        assert "backbone='own': it must be one of" in _error(cli.run, *arguments)
        # The config is right, so the next input is read.
        assert "dataset 'absent'" in _error(cli.run, *arguments, "--run-fn", "own_backbone.run_fn")
    finally:
        BACKBONES.discard("own")


@pytest.mark.parametrize(
    ("command", "folder", "option"),
    [
        (cli.run, {"--root": "/dev/null/x"}, "--root"),
        (cli.quickstart, {"--root": "/proc/x"}, "--root"),
        (cli.prepare, {"--root": "/proc/x"}, "--root"),
        (cli.prepare, {"--out": "/dev/null/o"}, "--out"),
    ],
)
def test_a_folder_that_cannot_be_written(command, folder, option, clusters, tmp_path):
    arguments = clusters[1:] if command is cli.prepare else clusters
    options = {"--root": tmp_path / "var", **folder}
    result = CliRunner().invoke(
        command, [*arguments, *(str(a) for o in options.items() for a in o)]
    )
    assert isinstance(result.exception, InputError)
    assert "it must be a folder that can be written" in str(result.exception)
    assert str(result.exception).endswith(f"Give another folder by {option}.")
    assert "Loading TFX" not in result.output


def test_a_root_that_tfx_would_read_as_a_pattern(clusters, tmp_path):
    message = _error(cli.run, *clusters, "--root", tmp_path / "odd [1]")
    assert "must not hold any of" in message and "--root" in message
    assert not (tmp_path / "odd [1]").exists()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CMCLREC_CACHE", "/dev/null/x")
    message = _error(cli.prepare, "movielens-100k", "--root", tmp_path / "var")
    assert message.startswith("/dev/null/x: ") and "CMCLREC_CACHE" in message


def test_help_is_quick_and_loads_no_tensorflow():
    script = (
        "import sys; from click.testing import CliRunner; from pipeline.commands import cli\n"
        "for c in (cli.prepare, cli.pipeline, cli.quickstart):\n"
        "    print(CliRunner().invoke(c, ['--help']).output)\n"
        "assert not {'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--data-dir", "--preset", "--config", "--root", "--out", "--port"):
        assert option in done.stdout


def test_clean_removes_the_results_of_a_run_except_pushed_models(tmp_path):
    where = ["clean", "--dataset", "movielens-100k", "--root", str(tmp_path)]
    for name in ("pipelines/movielens-100k/Trainer/x", "serving/cmclrec/1/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    metadata = tmp_path / "metadata" / "movielens-100k.db"
    metadata.parent.mkdir()
    metadata.write_text("")
    refused = CliRunner().invoke(cli.pipeline, where, input="n\n")
    assert refused.exit_code == 1 and metadata.exists()
    done = CliRunner().invoke(cli.pipeline, [*where, "--yes"])
    assert done.exit_code == 0 and str(metadata) in done.output
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"x", "movielens-100k.db.lock"}  # a lock that is removed locks nobody out
    assert (tmp_path / "serving" / "cmclrec" / "1" / "x").exists()
    assert "nothing of movielens-100k" in CliRunner().invoke(cli.pipeline, where).output


@pytest.mark.parametrize("command", [["status"], ["lineage", "."]])
def test_missing_metadata_is_named(tmp_path, command):
    where = ["--dataset", "movielens-100k", "--root", str(tmp_path)]
    result = CliRunner().invoke(cli.pipeline, [*command, *where])
    with pytest.raises(InputError, match="movielens-100k.db: the metadata must exist"):
        raise result.exception

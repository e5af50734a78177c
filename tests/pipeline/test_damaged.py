"""Results of a killed component, and results that were damaged later, are never used."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest
from ml_metadata.proto.metadata_store_pb2 import Execution

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from pipeline.configs import Folders
from pipeline.metadata import store
from tests.pipeline.test_prepare import SPLITS, _records
from tests.pipeline.toy_datasets import write_clusters

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

CONFIG = Config(data=DataConfig(max_history=6))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    spec = write_clusters(folder / "raw", n_users=150)
    return types.SimpleNamespace(spec=spec, raw=folder / "raw", folder=folder)


def _prepare(setting, root):
    from pipeline.commands.prepare import prepare

    return prepare(setting.spec, root / "out", CONFIG, setting.raw, root=root).folder


def _content(folder):
    """Returns all of a prepared dataset that training reads, in any order."""
    users = {
        split: {user["user_id"][0]: user for user in _records(map(str, (folder / split).glob("*")))}
        for split in SPLITS
    }
    vocabularies = {path.name: path.read_bytes() for path in (folder / "vocabularies").iterdir()}
    return users, vocabularies


@pytest.fixture(scope="module")
def intact(setting):
    """The root and the content of an undamaged dataset."""
    root = setting.folder / "intact"
    return types.SimpleNamespace(root=root, content=_content(_prepare(setting, root)))


def _command(setting, root):
    config = setting.folder / "config.yaml"
    config.write_text(CONFIG.to_yaml())
    command = [shutil.which("cmclrec", path=pathlib.Path(sys.executable).parent), "prepare"]
    command += [str(setting.spec), "--data-dir", str(setting.raw), "--config", str(config)]
    return [*command, "--root", str(root), "--out", str(root / "out")]


def _run_and_stop(setting, root, component, number):
    """Starts the pipeline and sends it a signal when `component` starts to write.

    Returns:
        The exit status, and the lines that were printed after the signal.
    """
    path = setting.folder / "stopped.log"
    with open(path, "w") as log:
        process = subprocess.Popen(_command(setting, root), stdout=log, stderr=log)
        for _ in range(2400):
            if any(path.is_file() for path in root.rglob(f"{component}/*/*/**/*")):
                break
            assert process.poll() is None, path.read_text()
            time.sleep(0.05)
        before = path.read_text()
        process.send_signal(number)
        return process.wait(), path.read_text()[len(before) :].splitlines()


@pytest.mark.parametrize(
    ("number", "status", "lines"),
    [
        (signal.SIGKILL, -signal.SIGKILL, []),
        (signal.SIGINT, 130, ["stopped by Ctrl-C"]),
        (signal.SIGTERM, 143, ["stopped by SIGTERM"]),
    ],
)
def test_a_component_that_was_stopped_runs_again(setting, intact, number, status, lines):
    root = setting.folder / f"stopped-{number}"
    assert _run_and_stop(setting, root, "Transform", number) == (status, lines)
    assert not (root / "out").exists()
    half = _numbered(root)
    assert bool(half) == (number == signal.SIGKILL)  # the others remove what they have written
    assert _content(_prepare(setting, root)) == intact.content
    assert not half & _numbered(root)
    folders = Folders(root, "clusters")
    executions = store.executions(store.connect(folders.metadata), folders.pipeline_name)
    states = [execution.last_known_state for execution in executions["Transform"]]
    assert states == [Execution.CANCELED, Execution.COMPLETE]


def _numbered(root):
    """Returns the artifacts of Transform, which are named by the number of their execution."""
    return {path for path in root.glob("pipelines/*/Transform/*/*") if path.name.isdigit()}


def test_a_second_run_waits_for_the_first(setting, intact):
    """The test holds the lock, as another process that runs the pipeline does."""
    folders = Folders(intact.root, "clusters")
    with locks.waiting(folders.lock):
        process = subprocess.Popen(
            _command(setting, intact.root), stderr=subprocess.PIPE, text=True
        )
        lines = iter(process.stderr.readline, "")
        assert any(f"Waiting for process {os.getpid()} on " in line for line in lines)
        assert process.poll() is None
    shown = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and "[1/6] ExampleGen ... " in shown
    assert _content(intact.root / "out") == intact.content


def test_a_half_written_artifact_is_made_again(setting, intact, capsys):
    shard = _live(intact.root, "Transform/transformed_examples", "train")
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    assert _content(_prepare(setting, intact.root)) == intact.content
    shown = capsys.readouterr().err
    assert f"{shard.parents[1]} has changed since it was written, and is made again" in shown
    assert "Transform ... (cached)" not in shown and shown.count("(cached)") == 5
    _prepare(setting, intact.root)
    assert capsys.readouterr().err.count("(cached)") == 6


def _live(root, artifact, split):
    """Returns the only shard of a split in an artifact that is not set aside."""
    paths = root.rglob(f"{artifact}/*/Split-{split}/*.gz")
    (path,) = (path for path in paths if ".damaged" not in str(path))
    return path


def test_a_prepared_dataset_that_lost_records_is_refused(setting, intact):
    folder = intact.root / "out"
    (shard,) = pathlib.Path(folder, "val").glob("*.gz")
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(InputError, match=f"{shard}: it must be whole"):
        PreparedDataset.load(folder)
    shard.unlink()
    with pytest.raises(InputError, match="dataset.yaml says"):
        PreparedDataset.load(folder)


def test_a_corrupt_shard_is_named_with_its_place(setting, intact):
    shard = _live(intact.root, "ExampleGen/examples", "train")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    # The size stays the same, so that only reading shows the damage.
    transformed = _live(intact.root, "Transform/transformed_examples", "train").parents[1]
    transformed.rename(f"{transformed}.gone")
    with pytest.raises(InputError) as error:
        _prepare(setting, intact.root)
    message = str(error.value)
    assert message.startswith(f"{shard}: ") and re.search(r"record \d+, at byte \d+", message)
    # The next run makes it again, as in the test above.
    assert pathlib.Path(f"{shard.parents[1]}.damaged").is_dir()

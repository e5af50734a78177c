"""Results of a killed component, and results that were damaged later, are never used."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import pytest

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
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


def _run_and_kill(setting, root, component):
    """Starts the pipeline and kills it when `component` starts to write."""
    config = setting.folder / "config.yaml"
    config.write_text(CONFIG.to_yaml())
    command = [sys.executable, "-m", "cmclrec_tf.cli", "prepare", str(setting.spec)]
    command += ["--data-dir", str(setting.raw), "--config", str(config), "--root", str(root)]
    with open(setting.folder / "killed.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(2400):
            if any(path.is_file() for path in root.rglob(f"{component}/*/*/**/*")):
                break
            assert process.poll() is None, (setting.folder / "killed.log").read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_a_killed_component_runs_again(setting, intact):
    root = setting.folder / "killed"
    _run_and_kill(setting, root, "Transform")
    assert not (root / "out").exists()
    assert _content(_prepare(setting, root)) == intact.content


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

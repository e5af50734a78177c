"""Tests that versions are published, rolled back, restored, labelled and removed."""

import os
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import CommandGroups
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import leftovers, writing
from serving import versions
from serving.commands import versions as command
from serving.server import model_config


@pytest.fixture
def source(tmp_path):
    """A folder with many files that looks like a SavedModel."""
    folder = tmp_path / "source"
    for number in range(40):
        path = folder / "variables" / f"part-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(20_000))
    (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


@pytest.fixture
def base(tmp_path):
    """A base path with versions 1 to 4, of which 3 is incomplete, and another folder."""
    base = tmp_path / "cmclrec"
    for version in (1, 2, 3, 4):
        (base / str(version)).mkdir(parents=True)
        if version != 3:
            (base / str(version) / "saved_model.pb").write_bytes(b"graph")
    (base / "5-aside").mkdir()
    return base


def names(base):
    return sorted(path.name for path in base.iterdir())


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_available_and_latest(base):
    assert set(versions.available(base)) == {1, 2, 4}
    assert versions.latest(base) == (4, base / "4")


def test_publish(source, tmp_path):
    base = tmp_path / "new" / "cmclrec"
    before = int(time.time())
    first, folder = versions.publish(source, base)
    second, _ = versions.publish(source, base)
    third, _ = versions.publish(source, base)
    assert before <= first < second < third
    assert folder == base / str(first) and files(folder) == files(source)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert len(names(base)) == 3
    # The number of a version that was rolled back is not used again.
    versions.roll_back(base)
    assert versions.publish(source, base)[0] > third


def test_a_version_is_always_complete(source, tmp_path):
    """A thread that watches the folder never sees a part of a version."""
    base, events, done = tmp_path / "cmclrec", [], threading.Event()
    base.mkdir()

    def watch():
        while not done.is_set():
            for path in base.iterdir():
                if path.name.isdigit():
                    events.append((path.name, len(list((path / "variables").iterdir()))))
                    events.append((path.name, 40 if (path / "saved_model.pb").is_file() else 0))

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(5):
        versions.publish(source, base)
    done.set()
    watching.join()
    assert events and {count for _, count in events} == {40}


def test_an_interrupted_publish(source, base, monkeypatch):
    """It leaves neither a version nor its temporary folder."""

    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(writing, "sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            versions.publish(source, base)
    assert names(base) == ["1", "2", "3", "4", "5-aside"]


KILLED = """
import sys, time
from serving import versions
from cmclrec_tf.processes import writing

def hang(path):
    print("copied", flush=True)
    time.sleep(600)

writing.sync = hang
versions.publish(*sys.argv[1:])
"""


def test_what_a_killed_publish_leaves_is_removed_but_not_what_a_live_one_needs(source, base):
    command = [sys.executable, "-c", KILLED, str(source), str(base)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == b"copied\n"
        left = [name for name in names(base) if name.startswith(".publishing-")]
        assert len(left) == 2
        processes[0].kill()
        processes[0].wait()
        versions.publish(source, base)
        (live,) = [name for name in names(base) if name.startswith(".publishing-")]
        assert files(base / live / "copy") == files(source)
        processes[1].kill()
        processes[1].wait()
        versions.prune(base, 1)
        assert not [name for name in names(base) if name.startswith(".")]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_no_saved_model_to_publish(tmp_path):
    with pytest.raises(InputError, match="must hold saved_model.pb"):
        versions.publish(tmp_path, tmp_path / "cmclrec")
    assert not (tmp_path / "cmclrec").exists()


def test_roll_back_and_restore(base):
    assert versions.roll_back(base) == (2, [3, 4])
    assert versions.latest(base)[0] == 2
    assert set(versions.rolled_back(base)) == {3, 4}
    assert versions.roll_back(base, to=1) == (1, [2])
    with pytest.raises(InputError, match="before the newest"):
        versions.roll_back(base)
    with pytest.raises(InputError, match=r"version 7 .* there are \[1\]"):
        versions.roll_back(base, to=7)
    versions.restore(base, 4)
    assert versions.latest(base)[0] == 4
    with pytest.raises(InputError, match=r"there are \[2, 3\]"):
        versions.restore(base, 4)


def test_the_newest_is_moved_last(base, monkeypatch):
    """A server that watches must not load a version in between."""
    events, rename = [], type(base).rename
    monkeypatch.setattr(
        type(base), "rename", lambda path, to: (events.append(path.name), rename(path, to))[1]
    )
    versions.roll_back(base, to=1)
    assert events == ["2", "3", "4"]


def test_restore_never_replaces_a_version(base):
    versions.roll_back(base)
    (base / "4").mkdir()
    with pytest.raises(InputError, match="there must be none yet"):
        versions.restore(base, 4)
    assert 4 in versions.rolled_back(base)


def test_a_copy_of_an_old_model_is_not_stale(source, base, monkeypatch):
    """Another publish at the same time does not remove it."""
    os.utime(source, (0, 0))
    through = writing.sync

    def meanwhile(path):
        leftovers.remove_left(base, ".publishing-")
        through(path)

    monkeypatch.setattr(writing, "sync", meanwhile)
    _, folder = versions.publish(source, base)
    assert files(folder) == files(source)


def test_prune(base):
    assert versions.prune(base, 2, protected={1}) == []
    assert versions.prune(base, 1, protected={1}) == [2, 3]
    assert names(base) == ["1", "4", "5-aside"]
    assert versions.prune(base, 1) == [1]
    assert versions.prune(base, 1) == []
    with pytest.raises(InputError, match="keep=0"):
        versions.prune(base, 0)


def test_folders_with_leading_zeros(base):
    """TensorFlow Serving reads them as numbers, too."""
    (base / "4").rename(base / "004")
    assert versions.roll_back(base, to=1) == (1, [2, 3, 4])
    assert names(base)[:2] == ["004.rolled-back", "1"]
    versions.restore(base, 4)
    assert versions.latest(base) == (4, base / "004")
    assert versions.prune(base, 1) == [1]
    (base / "0005").mkdir()
    (base / "0005" / "saved_model.pb").write_bytes(b"graph")
    assert versions.prune(base, 1) == [4]
    assert "0005" in names(base) and "004" not in names(base)


class Root(CommandGroups):
    def get_command(self, ctx, name):
        return command.versions


def run(base, *arguments):
    command_line = ["versions", *map(str, arguments)]
    if base is not None:
        command_line += ["--model-base-path", str(base)]
    return CliRunner().invoke(Root(name="cmclrec"), command_line)


def test_commands(base):
    assert run(base, "list").output == "4  newest\n2\n1\n"
    done = run(base, "rollback")
    assert "Version 2 is the newest now." in done.output
    assert f"undo with `cmclrec versions restore 4 --model-base-path {base}`" in done.output
    assert run(base, "list").output == "2  newest\n1\n4  rolled back\n3  rolled back\n"
    assert "Version 4 is back; the newest is 4." in run(base, "restore", 4).output
    assert run(base, "prune", "--keep", 1).output == "Removed: 1, 2.\n"
    for arguments, text in (
        (["rollback"], "before the newest"),
        (["restore", 9], "version 9"),
        (["prune", "--keep", 0], "--keep"),
    ):
        done = run(base, *arguments)
        assert done.exit_code == 2 and text in done.output, done.output


def test_labels(base, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(f'model_config_list {{ config {{ name: "cmclrec" base_path: "{base}" }} }}')
    path.chmod(0o640)
    more = ["--model-config-file", path]
    assert run(base, "label", "canary", 4, *more).exit_code == 0
    assert run(base, "label", "stable", 1, *more).exit_code == 0
    assert model_config.read(path)["cmclrec"].labels == (("canary", 4), ("stable", 1))
    assert path.stat().st_mode & 0o777 == 0o640
    done = run(base, "label", "stable", 3, *more)
    assert done.exit_code == 2 and "a label names one of [1, 2, 4]" in done.output
    assert run(base, "prune", "--keep", 1, *more).output == "Removed: 2, 3.\n"
    assert run(None, "unlabel", "canary", *more).exit_code == 0
    done = run(None, "unlabel", "canary", *more)
    assert done.exit_code == 2 and "there are ['stable']" in done.output
    assert model_config.read(path)["cmclrec"].labels == (("stable", 1),)
    done = run(None, "unlabel", "stable", *more, "--model-name", "other")
    assert done.exit_code == 2 and "'other'" in done.output

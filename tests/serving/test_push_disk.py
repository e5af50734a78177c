"""Tests that what keeps a version from being written is one line with the path and the fix."""

import contextlib
import resource
import subprocess

import pytest

from cmclrec_tf.errors import InputError
from serving import versions
from serving.export.saved_model import export
from tests.serving.test_versions import run


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MB with three small versions."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        for version in (1, 2, 3):
            (folder / "cmclrec" / str(version)).mkdir(parents=True)
            (folder / "cmclrec" / str(version) / "saved_model.pb").write_bytes(b"graph")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def large(tmp_path):
    folder = tmp_path / "large"
    (folder / "variables").mkdir(parents=True)
    for part in range(4):
        (folder / "variables" / f"part-{part}").write_bytes(bytes(400_000))
    (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


@contextlib.contextmanager
def largest_file(size):
    """The system refuses larger files, as it refuses any file on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextlib.contextmanager
def refused(folder, *texts):
    """The block fails with one line that names a path in the folder; the folder stays as it is."""
    before = tree(folder)
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert message.startswith(str(folder)) and "\n" not in message
    for text in texts:
        assert text in message
    assert tree(folder) == before


def test_a_full_disk(disk, large):
    with refused(disk, "no space left on device", "Free some space"):
        versions.publish(large, disk / "cmclrec")
    # Not even a folder fits.
    with contextlib.suppress(OSError):
        (disk / "rest").write_bytes(bytes(2_000_000))
    with refused(disk, "no space left on device"):
        versions.publish(large, disk / "cmclrec")
    # What needs no space works.
    assert versions.roll_back(disk / "cmclrec") == (2, [3])
    assert versions.prune(disk / "cmclrec", 1) == [1]


def test_a_file_that_is_too_large(large, tmp_path):
    base = tmp_path / "cmclrec"
    base.mkdir()
    with refused(base, "file too large", "ulimit -f"), largest_file(100_000):
        versions.publish(large, base)


def test_a_disk_that_is_read_only(disk, large):
    base = disk / "cmclrec"
    versions.roll_back(base)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for change in (
        lambda: versions.publish(large, base),
        lambda: versions.publish(large, disk / "new"),
        lambda: versions.roll_back(base),
        lambda: versions.restore(base, 3),
        lambda: versions.prune(base, 1),
    ):
        with refused(disk, "Read-only file system", "can write"):
            change()
    done = run(base, "rollback")
    assert done.exit_code == 2 and done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1


def test_labels_on_a_full_disk(disk):
    base, path = disk / "cmclrec", disk / "models.config"
    path.write_text(f'model_config_list {{ config {{ name: "cmclrec" base_path: "{base}" }} }}')
    with contextlib.suppress(OSError):
        (disk / "rest").write_bytes(bytes(2_000_000))
    before = tree(disk), path.read_text()
    done = run(base, "label", "stable", 1, "--model-config-file", path)
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1, done.output
    assert "no space left on device" in done.output.lower()
    assert (tree(disk), path.read_text()) == before


def test_an_export_to_a_full_disk(disk, model, dataset):
    with contextlib.suppress(OSError):
        (disk / "rest").write_bytes(bytes(1_000_000))
    before = tree(disk)
    with pytest.raises(InputError, match="(?i)no space left on device") as caught:
        export(model, dataset, disk / "export")
    assert "\n" not in str(caught.value)
    assert tree(disk) == before

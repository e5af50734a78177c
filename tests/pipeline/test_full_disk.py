"""A pipeline whose disk is full ends with one line, and runs to the end once there is space."""

import os
import subprocess
import sys

import pytest

from cmclrec_tf.config import Config, DataConfig
from tests.pipeline.test_damaged import _content
from tests.pipeline.toy_datasets import write_clusters

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

SMALL_DISK = """
mount -t tmpfs -o size=$1 tmpfs "$VAR" || exit 99
shift
"$@"; first=$?
mount -o remount,size=200m "$VAR" && "$@" && cp -r "$VAR/out" "$OUT"
echo "statuses $first $?"
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder that small disks are mounted on, the command, and what it prepares elsewhere."""
    folder = tmp_path_factory.mktemp("full")
    spec = write_clusters(folder / "raw", n_users=150)
    config = Config(data=DataConfig(max_history=6))
    (folder / "config.yaml").write_text(config.to_yaml())
    (folder / "var").mkdir()

    def command(root):
        return [
            *(sys.executable, "-m", "cmclrec_tf.cli", "prepare", str(spec)),
            *("--data-dir", str(folder / "raw"), "--config", str(folder / "config.yaml")),
            *("--root", str(root), "--out", str(root / "out")),
        ]

    subprocess.run(command(folder / "roomy"), check=True)
    return folder / "var", command(folder / "var"), _content(folder / "roomy" / "out")


@pytest.mark.parametrize("size", ["300k", "900k"])
def test_a_full_disk_is_one_line_and_the_next_run_ends_right(small, size, tmp_path):
    root, command, content = small
    # A mount of its own, which needs no rights.
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh"]
    finished = subprocess.run(
        [*unshare, size, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "VAR": str(root), "OUT": str(tmp_path / "out")},
        check=False,
    )
    if finished.returncode == 99 or finished.stderr.startswith("unshare"):
        pytest.skip("no mounts in a namespace of users")
    assert finished.stdout.endswith("statuses 2 0\n"), finished.stderr
    line = finished.stderr.partition("error: ")[2].splitlines()[0]
    assert line.startswith(str(root))
    assert ": no space left on device. Free some space on its disk, " in line
    assert "Traceback" not in finished.stderr and finished.stderr.count("error: ") == 1
    assert _content(tmp_path / "out") == content

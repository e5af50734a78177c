"""Locks and signals of forked children, and locks where the storage has few of its own."""

import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import leftovers, locks

POOL = """
import multiprocessing, time
from cmclrec_tf.processes import stopping
stopping.install(0.3)
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(abs, [1])
time.sleep(1)  # the pool has ended its processes by SIGTERM
print("ended")
"""
EARLY = """
import os, signal, time
os.register_at_fork(after_in_child=lambda: time.sleep(0.5))  # runs before the hook of `stopping`
from cmclrec_tf.processes import stopping
stopping.install(0.3)
child = os.fork()
if not child:
    time.sleep(5)
    os._exit(3)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(1)
print(os.WIFSIGNALED(status) and os.WTERMSIG(status))
"""
CHILD = """
import os, sys, time
from cmclrec_tf.processes import stopping
stopping.install(0.3)
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)
os.kill(child, int(sys.argv[1]))
print("child", os.WTERMSIG(os.waitpid(child, 0)[1]))
time.sleep(1)
print("ended")
"""
ORPHAN = """
import os, signal, sys, time
from cmclrec_tf.processes import leftovers, locks
with locks.waiting(sys.argv[1] + "/lock"), leftovers.temporary_folder(sys.argv[1], ".new-"):
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""
RETURNING = """
import os, sys
from cmclrec_tf.processes import leftovers, locks
path = sys.argv[1] + "/lock"
child = None
with locks.waiting(path), leftovers.temporary_folder(sys.argv[1], ".new-") as folder:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print(folder.is_dir(), str(os.getpid()) in locks.holder(path))
print(folder.exists() and bool(child), locks.holder(path))
"""


def _output(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pool_of_processes_leaves_its_parent_alone():
    assert _output(POOL) == "ended\n"


def test_a_signal_that_comes_right_after_the_fork_ends_the_child():
    assert _output(EARLY) == f"{int(signal.SIGTERM)}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_forked_child_ends_the_child_alone(number):
    assert _output(CHILD, int(number)) == f"child {int(number)}\nended\n"


def test_an_orphan_holds_no_lock(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    orphan = int(process.stdout.readline())
    try:
        assert process.wait() == -signal.SIGKILL
        assert locks.holder(tmp_path / "lock") is None
        leftovers.remove_left(tmp_path, ".new-")
        assert os.listdir(tmp_path) == ["lock"]
    finally:
        os.kill(orphan, signal.SIGKILL)
        process.stdout.close()


def test_a_child_that_returns_leaves_the_folder_and_the_lock(tmp_path):
    lines = _output(RETURNING, tmp_path).splitlines()
    assert "True True" in lines and lines[-1] == "False None"


@pytest.mark.parametrize("number", [38, 37, 95])  # ENOSYS, ENOLCK, ENOTSUP
def test_without_locks_a_line_says_so_once(tmp_path, monkeypatch, capsys, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    for _ in range(2):
        with locks.waiting(tmp_path / "lock"), locks.exclusive(tmp_path / "data", "data", "Wait."):
            pass
    assert locks.holder(tmp_path / "lock") is None
    line = f"{tmp_path}: its file system has no locks; run one command at a time on it\n"
    assert capsys.readouterr().err == line


def test_those_who_ask_are_no_holders(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with path.open("rb") as asks:
        fcntl.flock(asks, fcntl.LOCK_SH)  # as `holder` does
        assert locks.holder(path) is None
        threading.Timer(0.1, fcntl.flock, (asks, fcntl.LOCK_UN)).start()
        with locks.exclusive(path, "data", "Wait."):
            assert f"process {os.getpid()} " in locks.holder(path)
        fcntl.flock(asks, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="is using it"), locks.exclusive(path, "data", "Wait."):
            pass


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 99; "$2" -c "$3" "$1"'
ON_READ_ONLY = """
import sys
from cmclrec_tf.processes import locks
with locks.exclusive(sys.argv[1] + "/lock", "data", "Wait."):
    print("held")
"""


def test_a_lock_on_read_only_storage_is_taken(tmp_path):
    (tmp_path / "lock").touch()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh"]
    command += [str(tmp_path), sys.executable, ON_READ_ONLY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 99 or done.stderr.startswith("unshare"):
        pytest.skip("no mounts in a namespace of users")
    assert done.stdout == "held\n", done.stderr

"""Commands that are stopped, that run at the same time, and that find the disk full."""

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from cmclrec_tf.processes.whole import full_disk, replace_folder, whole_file, write_npz

START = """
import sys, time, threading, click
from cmclrec_tf.cli import CommandGroups
from cmclrec_tf.processes import stopping
stopping.install.__defaults__ = (0.5, False)
main = CommandGroups("cmclrec")
main.get_command = lambda context, name: click.Command(name, callback=command)
"""
BODIES = {
    "sleeps": "time.sleep(60)",
    "swallows": """
    try: time.sleep(60)
    except BaseException: pass
    time.sleep(60)""",
    "wraps": """
    try: time.sleep(60)
    except BaseException as error: raise RuntimeError("the step failed") from error""",
    "threads": """
    threading.Thread(target=time.sleep, args=(60,)).start()
    time.sleep(60)""",
    "native": """
    import ctypes
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)  # for ever""",
}


def _started(body, prefix=()):
    code = f"{START}\ndef command():\n    print('ready', flush=True)\n    {body}\nmain()"
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", code, "command"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    return process


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C\n"), (signal.SIGTERM, 143, "stopped by SIGTERM\n")],
)
def test_a_signal_ends_a_command_with_one_line(body, number, status, line):
    process = _started(BODIES[body])
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", line)
    assert process.returncode == status


def test_a_second_signal_does_not_wait(tmp_path):
    body = BODIES["swallows"].replace("pass", f"open({str(tmp_path / 'first')!r}, 'w')")
    process = _started(f"stopping.install(60)\n    {body}")
    process.send_signal(signal.SIGINT)
    while not (tmp_path / "first").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("", "stopped by Ctrl-C\n")
    assert process.returncode == 130


def test_a_process_of_a_command_leaves_the_line_to_it():
    process = _started("stopping.install(60, quiet=True)\n    time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 143


def test_an_ignored_signal_stays_ignored():
    process = _started("time.sleep(1.5)", prefix=("env", "--ignore-signal=INT"))
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_a_server_with_handlers_of_its_own_has_all_the_time():
    body = "import signal; signal.signal(15, lambda *_: print('drains')); time.sleep(2)"
    process = _started(body)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("drains\n", "")
    assert process.returncode == 0


HOLD = """
import sys, time
from cmclrec_tf.processes import locks
with locks.waiting(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holding(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_names_its_process_and_ends_with_it(holding, tmp_path, capsys):
    path = tmp_path / "lock"
    with (
        pytest.raises(InputError, match=f"^data: process {holding.pid} on .* is using it. Wait.$"),
        locks.exclusive(path, "data", "Wait."),
    ):
        pass
    assert f"process {holding.pid} " in locks.holder(path)
    entered = []

    def enter():
        with locks.waiting(path):
            entered.append(locks.holder(path))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.3)
    assert not entered and f"Waiting for process {holding.pid} " in capsys.readouterr().err
    holding.send_signal(signal.SIGKILL)
    thread.join(10)
    assert f"process {os.getpid()} " in entered[0]
    assert locks.holder(path) is None


def test_a_thread_may_take_its_lock_twice_and_another_may_not(tmp_path):
    path = tmp_path / "new" / "lock"
    with locks.waiting(path):
        with locks.exclusive(path, "data", "Wait."):
            pass
        refused = []

        def enter():
            try:
                with locks.exclusive(path, "data", "Wait."):
                    pass
            except InputError as error:
                refused.append(str(error))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(10)
    assert f"process {os.getpid()} " in refused[0]


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as new:
        new.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["model.keras"]
    with whole_file(path) as new:
        assert new.suffix == ".keras"
        new.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["model.keras"]


def test_a_file_on_a_full_disk_is_named(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(InputError, match=f"^{path}: no space left on device"), whole_file(path):
        raise OSError("Can't write data (errno = 28, error message = 'No space left on device')")
    assert not os.listdir(tmp_path)


def _folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_folder_is_replaced_by_another(tmp_path):
    folder = tmp_path / "data"
    for text in ("one", "two"):
        replace_folder(_folder(tmp_path / "new", text), folder)
        assert (folder / "file").read_text() == text
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", folder)
    assert (folder / "file").read_text() == "two" and os.listdir(tmp_path) == ["data"]


def test_two_processes_replace_one_folder(tmp_path):
    folder = tmp_path / "data"
    sources = [[_folder(tmp_path / f"{n}-{i}", f"{n}-{i}") for i in range(40)] for n in range(4)]

    def replace(paths):
        for path in paths:
            replace_folder(path, folder)

    threads = [threading.Thread(target=replace, args=(paths,)) for paths in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (folder / "file").read_text().endswith("-39") and os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("error", "path"),
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b"),
        (OSError(122, "Disk quota exceeded", "/a/b"), "/a/b"),
        (RuntimeError("Unknown: /a/b-00000.gz; No space left on device"), "/a/b-00000.gz"),
        (
            RuntimeError("OSError: [Errno 28] No space left on device: '/a/b' [while running"),
            "/a/b",
        ),
        (OSError("Can't write data (errno = 28, error message = 'No space left on device')"), None),
        (RuntimeError("INTERNAL: Error when executing query: database or disk is full"), None),
    ],
)
def test_a_full_disk_is_found_behind_other_errors(error, path, tmp_path):
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("the component failed") from inner
    except RuntimeError as outer:
        line = str(full_disk(outer, [tmp_path]))
    assert ": no space left on device. Free some space on its disk, " in line
    assert line.startswith(f"{path}: " if path else "/")
    assert full_disk(ValueError("no space for more rows")) is None


class _SmallDisk(io.BytesIO):
    def write(self, data):
        if self.tell() + len(data) > 5000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_arrays_on_a_full_disk_leave_no_traceback(monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(OSError, match="No space left"):
        write_npz(_SmallDisk(), {"a": np.ones(10), "b": np.ones(1000)})
    gc.collect()
    assert not ignored
    file = io.BytesIO()
    write_npz(file, {"model/0": np.ones(3), "facts": np.array("{}")})
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        assert loaded["model/0"].tolist() == [1, 1, 1] and str(loaded["facts"]) == "{}"

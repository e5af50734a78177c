"""Folders on a remote file system are written and read through local ones."""

import os

import pytest
import tensorflow as tf

from pipeline.storage import staging

FILES = {"saved_model.pb": b"\x00\x01", "variables/variables.index": b"v", "assets/a/b": b""}


@pytest.fixture
def remote(tmp_path):
    """A folder in TensorFlow's file system in memory."""
    return f"ram://{tmp_path.name}/model/Format-Serving"


def _write(folder):
    for name, content in FILES.items():
        path = tf.io.gfile.join(folder, name)
        tf.io.gfile.makedirs(os.path.dirname(path))
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content)


def _content(folder):
    files = {}
    for place, _, names in tf.io.gfile.walk(folder):
        for name in names:
            path = tf.io.gfile.join(place, name)
            with tf.io.gfile.GFile(path, "rb") as file:
                files[os.path.relpath(path, folder)] = file.read()
    return files


def test_local_output_is_copied_to_the_remote_folder(remote):
    with staging.local_output(remote) as folder:
        _write(folder)
        assert os.path.isfile(os.path.join(folder, "saved_model.pb"))
        assert not tf.io.gfile.exists(remote)
    assert _content(remote) == FILES
    assert not os.path.exists(folder)


def test_a_failure_writes_nothing(remote):
    with pytest.raises(OSError), staging.local_output(remote) as folder:
        _write(folder)
        raise OSError
    assert not tf.io.gfile.exists(remote)


def test_a_remote_folder_is_read_from_a_local_copy(remote):
    _write(remote)
    with staging.local_copy(remote) as folder:
        assert "://" not in folder and os.path.basename(folder) == "Format-Serving"
        assert _content(folder) == FILES
    assert not os.path.exists(folder)


def test_a_local_folder_is_used_itself(tmp_path):
    for stage in (staging.local_output, staging.local_copy):
        with stage(str(tmp_path)) as folder:
            assert folder == str(tmp_path)
    assert tmp_path.is_dir()

"""Folders of a remote file system, for code that works on this machine's files."""

import contextlib
import os
import tempfile

import tensorflow as tf

from pipeline.storage.folders import is_remote


@contextlib.contextmanager
def written(folder):
    """A folder of this machine whose files are in `folder` when the context ends without an error.

    Args:
        folder: of any file system that TensorFlow knows; a local one is yielded as it is.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = os.path.join(temporary, os.path.basename(folder.rstrip("/")))
        yield local
        copy(local, folder)


@contextlib.contextmanager
def fetched(folder):
    """A folder of this machine with the files of `folder`; arguments as in `written`."""
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = os.path.join(temporary, os.path.basename(folder.rstrip("/")))
        copy(folder, local)
        yield local


def copy(source, target) -> None:
    """Copies all files below a folder, from and to any file system that TensorFlow knows."""
    for place, _, names in tf.io.gfile.walk(source):
        below = place.rstrip("/")[len(source.rstrip("/")) :].strip("/")
        there = tf.io.gfile.join(target, below) if below else target
        tf.io.gfile.makedirs(there)
        for name in names:
            tf.io.gfile.copy(tf.io.gfile.join(place, name), tf.io.gfile.join(there, name))

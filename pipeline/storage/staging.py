"""Stands in for remote folders with local ones, for code that works on local files only."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from pipeline.storage.folders import is_remote


@contextlib.contextmanager
def local_output(folder: str) -> Iterator[str]:
    """Yields a local folder and copies its files to `folder` when the context ends without error.

    Args:
        folder: folder on any file system that TensorFlow knows; a local one is yielded itself.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = os.path.join(temporary, os.path.basename(folder.rstrip("/")))
        yield local
        copy(local, folder)


@contextlib.contextmanager
def local_copy(folder: str) -> Iterator[str]:
    """Yields a local folder with the files of `folder`, for reading.

    Args:
        folder: see `local_output`.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = os.path.join(temporary, os.path.basename(folder.rstrip("/")))
        copy(folder, local)
        yield local


def copy(source: str, target: str) -> None:
    """Copies all files below a folder, between any file systems that TensorFlow knows."""
    for place, _, names in tf.io.gfile.walk(source):
        below = place.rstrip("/")[len(source.rstrip("/")) :].strip("/")
        there = tf.io.gfile.join(target, below) if below else target
        tf.io.gfile.makedirs(there)
        for name in names:
            tf.io.gfile.copy(tf.io.gfile.join(place, name), tf.io.gfile.join(there, name))

"""Folders: which are remote, and which can be written, tried before anything that takes long."""

import pathlib
import tempfile

from cmclrec_tf.errors import InputError

BIGQUERY = "bigquery://"


def is_remote(path):
    """Whether a path names a file system of its own, as gs://bucket does."""
    return "://" in str(path)


def is_bigquery(name):
    """Whether a name in a dataset spec stands for a table of BigQuery."""
    return str(name).startswith(BIGQUERY)


def make_folder(path, mend):
    """Makes a folder, if need be, and tries to write there.

    Args:
        path: of the folder.
        mend: what the reader of the error can do.

    Returns:
        `pathlib.Path`.

    Raises:
        InputError: it cannot be made or written.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        rule = f"it must be a folder that can be written ({error.strerror})"
        raise InputError(path, rule, mend) from error

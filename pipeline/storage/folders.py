"""Names remote paths and BigQuery tables, and makes folders that can be written."""

import os
import pathlib
import tempfile
from typing import TypeAlias

from cmclrec_tf.errors import InputError

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path on this machine, or a URL such as gs://bucket/folder."""

BIGQUERY = "bigquery://"


def is_remote(path: AnyPath) -> bool:
    """Returns whether a path is a URL, such as gs://bucket."""
    return "://" in str(path)


def is_bigquery(name: AnyPath) -> bool:
    """Returns whether a file name in a dataset spec stands for a BigQuery table."""
    return str(name).startswith(BIGQUERY)


def make_folder(path: AnyPath, fix: str) -> pathlib.Path:
    """Makes a folder if it is missing, and tries to write into it.

    Args:
        path: path of the folder.
        fix: what the user can do if this fails, for the error.

    Returns:
        The path.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        rule = f"it must be a folder that can be written ({error.strerror})"
        raise InputError(path, rule, fix) from error

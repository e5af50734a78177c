"""Names remote paths and BigQuery tables, and makes folders that can be written."""

import os
from typing import TypeAlias

from cmclrec_tf.processes.whole import make_folder

__all__ = ["BIGQUERY", "AnyPath", "is_bigquery", "is_remote", "make_folder"]

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path on this machine, or a URL such as gs://bucket/folder."""

BIGQUERY = "bigquery://"


def is_remote(path: AnyPath) -> bool:
    """Returns whether a path is a URL, such as gs://bucket."""
    return "://" in str(path)


def is_bigquery(name: AnyPath) -> bool:
    """Returns whether a file name in a dataset spec stands for a BigQuery table."""
    return str(name).startswith(BIGQUERY)

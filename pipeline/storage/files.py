"""Opens and lists raw files, on this machine or on any file system that Beam knows.

Beam takes seconds to import, so it is imported for remote files only.
"""

import glob
import os
import time
from typing import Any, BinaryIO, cast

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath, is_bigquery, is_remote


def open_bytes(path: AnyPath) -> BinaryIO:
    """Opens a file for reading as it is stored: nothing is decompressed."""
    if not is_remote(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    file = _system(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return cast(BinaryIO, file)


def size(path: AnyPath) -> int:
    """Returns the size of a file in bytes."""
    return _system(path).size(path) if is_remote(path) else os.path.getsize(path)


def state(path: AnyPath) -> list[int]:
    """Returns what changes whenever a file changes: `[bytes, nanoseconds of its last change]`."""
    if is_bigquery(path):
        # Nothing is known of a table without an account, so it always counts as changed.
        return [0, time.time_ns()]
    if is_remote(path):
        metadata = _system(path).metadata(path)
        return [metadata.size_in_bytes, int(metadata.last_updated_in_seconds * 1e9)]
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def list_files(folder: AnyPath, name: str) -> list[str]:
    """Lists the files that a name in a dataset spec stands for.

    Args:
        folder: folder of the raw files.
        name: the name of a file; else of a folder, which stands for its files; else a pattern of
            files with `*`, `?` and `[...]`. Folders and patterns skip files whose names begin with
            "." or "_". A BigQuery table stands for itself.

    Returns:
        At least one path, in sorted order.

    Raises:
        InputError: no such file, or a file system that cannot be read.
    """
    if is_bigquery(name):
        return [name]
    try:
        paths = _list_remote(f"{str(folder).rstrip('/')}/{name}") if is_remote(folder) else None
    except Exception as error:  # File systems raise different errors, without a common base class.
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder}/{name}",
            f"its file system must be readable, and says: {message}",
            "Correct --data-dir, or give this machine permission to read it.",
        ) from error
    if paths is None:
        paths = _list_local(str(folder), name)
    if not paths:
        raise InputError(
            f"{str(folder).rstrip('/')}/{name}",
            "the dataset needs this file, or files in this folder or of this pattern",
            "Give the folder that holds it by --data-dir.",
        )
    return paths


def _list_local(folder, name):
    path, pattern = (os.path.join(root, name) for root in (folder, glob.escape(folder)))
    if os.path.isfile(path):
        return [path]
    inside = os.path.join(glob.escape(path), "*") if os.path.isdir(path) else pattern
    return sorted(path for path in glob.glob(inside) if os.path.isfile(path) and _is_data(path))


def _list_remote(path: str) -> list[str]:
    system = _system(path)
    if system.exists(path):
        return [path]
    # An object store has no folders: a name is one if there are files below it.
    for pattern in (f"{path}/*", path):
        metadata = system.match([pattern])[0].metadata_list
        paths = sorted(file.path for file in metadata if _is_data(file.path))
        if paths:
            return paths
    return []


def _is_data(path):
    """Returns whether a file is data: writers leave files such as _SUCCESS next to it."""
    return not os.path.basename(path).startswith((".", "_"))


def _system(path: AnyPath) -> Any:
    """Returns Beam's file system of a path, which has no types."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.get_filesystem(path)

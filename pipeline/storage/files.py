"""Raw files, on this machine or on any file system that Beam knows.

Beam takes seconds to load, and is loaded for remote files alone.
"""

import glob
import os
import time

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import is_bigquery, is_remote


def open_bytes(path):
    """Opens a file for reading, whatever its name says of compression."""
    if not is_remote(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    return _system(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def size(path):
    """Bytes of a file."""
    return _system(path).size(path) if is_remote(path) else os.path.getsize(path)


def state(path):
    """What changes with a file: `[bytes, nanoseconds since the epoch of its last change]`."""
    if is_bigquery(path):
        # Nothing of it is known without an account, so it counts as changed.
        return [0, time.time_ns()]
    if is_remote(path):
        found = _system(path).metadata(path)
        return [found.size_in_bytes, int(found.last_updated_in_seconds * 1e9)]
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def listed(folder, name):
    """The files that a name in a dataset spec stands for, in the order of their paths.

    Args:
        folder: of the raw files.
        name: of a file in it, else of a folder with files, else a pattern of files with `*`, `?`
            and `[...]`; or a BigQuery table, which stands for itself. Files of a folder or a
            pattern whose names begin with "." or "_" are none.

    Returns:
        list of str, at least one.

    Raises:
        InputError: there is no such file, or its file system cannot be read.
    """
    if is_bigquery(name):
        return [name]
    try:
        found = _remote(f"{str(folder).rstrip('/')}/{name}") if is_remote(folder) else None
    except Exception as error:  # Each file system has errors of its own, without a common base.
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder}/{name}",
            f"its file system must be readable, and says: {said}",
            "Correct --data-dir, or give this machine the right to read it.",
        ) from error
    if found is None:
        found = _local(str(folder), name)
    if not found:
        raise InputError(
            f"{str(folder).rstrip('/')}/{name}",
            "the dataset needs this file, or files in this folder or of this pattern",
            "Give the folder that holds it by --data-dir.",
        )
    return found


def _local(folder, name):
    path, pattern = (os.path.join(root, name) for root in (folder, glob.escape(folder)))
    if os.path.isfile(path):
        return [path]
    inside = os.path.join(glob.escape(path), "*") if os.path.isdir(path) else pattern
    return sorted(found for found in glob.glob(inside) if os.path.isfile(found) and _counts(found))


def _remote(path):
    system = _system(path)
    if system.exists(path):
        return [path]
    # Of an object store it cannot be asked whether a name is a folder: one has files below it.
    for pattern in (f"{path}/*", path):
        metadata = system.match([pattern])[0].metadata_list
        found = sorted(each.path for each in metadata if _counts(each.path))
        if found:
            return found
    return []


def _counts(path):
    """Whether a file is data: writers leave files such as _SUCCESS beside it."""
    return not os.path.basename(path).startswith((".", "_"))


def _system(path):
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.get_filesystem(path)

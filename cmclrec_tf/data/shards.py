"""Reads and counts the records of gzipped TFRecord files, and names a file that is damaged."""

import gzip
import os
import struct
import zlib
from collections.abc import Iterable

import tensorflow as tf

from cmclrec_tf.errors import InputError

# A record is its length (8 bytes), a checksum of that (4), its bytes, and a checksum of these (4).
_HEADER = struct.Struct("<Q4x")
_FOOTER_BYTES = 4


def read(paths: Iterable[str | os.PathLike[str]]) -> tf.data.Dataset:
    """Returns the serialized records of all files, one file after the other.

    A truncated file may end early without an error; `count` detects that.
    """
    return tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")


def count(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Returns the number of records in all files; reads each file to its end.

    Raises:
        InputError: a file is damaged or truncated; the message has its path and the position.
    """
    return sum(_count_file(str(path)) for path in paths)


def _count_file(path: str) -> int:
    records = offset = 0
    try:
        with tf.io.gfile.GFile(path, "rb") as file, gzip.GzipFile(fileobj=file) as plain:
            if not file.size():
                raise EOFError("it is empty")
            # gzip checks its checksum only when it is read past the last byte.
            while header := plain.read(_HEADER.size):
                (length,) = _HEADER.unpack(header)
                size = length + _FOOTER_BYTES
                if size > (1 << 31) or len(plain.read(size)) < size:
                    raise EOFError("a record is cut off")
                offset += _HEADER.size + size
                records += 1
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise InputError(
            path,
            f"it must be whole, and is damaged in record {records + 1}, at byte {offset} or later "
            f"of the uncompressed content ({error})",
            "Run `cmclrec prepare` or the pipeline again to rebuild it.",
        ) from error
    return records

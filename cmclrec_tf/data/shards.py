"""Files of records, TFRecord in gzip: reading them, and finding the one that is damaged."""

import gzip
import struct
import zlib

import tensorflow as tf

from cmclrec_tf.errors import InputError

# A record is its length (8 bytes), a checksum of that (4), its bytes, and a checksum of these (4).
_HEADER = struct.Struct("<Q4x")
_BEHIND = 4


def read(paths):
    """The serialized records of all files, one file after the other, as a `tf.data.Dataset`.

    A file that was cut off may end early without an error: see `count`.
    """
    return tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")


def count(paths):
    """Number of records in all files; reads each to its end.

    Raises:
        InputError: a file that is damaged or cut off; names it and the last byte that is sound.
    """
    return sum(_records(str(path)) for path in paths)


def _records(path):
    found = offset = 0
    try:
        with tf.io.gfile.GFile(path, "rb") as file, gzip.GzipFile(fileobj=file) as plain:
            if not file.size():
                raise EOFError("it is empty")
            # The end is known by reading past it, and gzip's checksum by getting there.
            while header := plain.read(_HEADER.size):
                (length,) = _HEADER.unpack(header)
                wanted = length + _BEHIND
                if wanted > (1 << 31) or len(plain.read(wanted)) < wanted:
                    raise EOFError("a record is cut off")
                offset += _HEADER.size + wanted
                found += 1
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise InputError(
            path,
            f"it must be whole, and is damaged in record {found + 1}, at byte {offset} or later of "
            f"what it holds unpacked ({error})",
            "Make it anew: run `cmclrec prepare` or the pipeline again.",
        ) from error
    return found

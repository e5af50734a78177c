"""Opens delimited text, compressed or not, and counts its lines."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from cmclrec_tf.errors import InputError
from pipeline.storage.files import open_bytes
from pipeline.storage.folders import AnyPath

_PART = 16 << 20


def is_gzip(path: AnyPath) -> bool:
    """Returns whether a file is compressed, by its name."""
    return str(path).endswith(".gz")


@contextlib.contextmanager
def open_table(path: AnyPath) -> Iterator[BinaryIO]:
    """Opens a table's file for reading bytes, decompressed if its name ends in `.gz`.

    Args:
        path: path on any file system that `pipeline.storage.files` reads.

    Raises:
        InputError: a compressed file that is damaged, cut off or not compressed at all.
    """
    with open_bytes(path) as file:
        if not is_gzip(path):
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield cast(BinaryIO, decompressed)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                path,
                "a file whose name ends in .gz must be whole gzip, and this one is not, at or "
                f"before byte {file.tell()}",
                "Correct the file.",
            ) from error


def row_number(path: AnyPath, offset: int) -> int:
    """Returns the number of the line that begins at `offset`; the header is line 1."""
    row, remaining = 1, offset
    with open_table(path) as file:
        while remaining > 0 and (block := file.read(min(remaining, _PART))):
            row += block.count(b"\n")
            remaining -= len(block)
    return row

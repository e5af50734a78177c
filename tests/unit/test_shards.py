"""Record files are counted to their end, and an error names a damaged file and the position."""

import gzip
import re
import zlib

import pytest
import tensorflow as tf

from cmclrec_tf.data import shards
from cmclrec_tf.errors import InputError

RECORDS = [bytes([n % 251]) * (n % 90) for n in range(3000)]
SIZES = [len(record) + 16 for record in RECORDS]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "part.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def test_intact_files(path):
    assert shards.count([path, path]) == 6000
    assert shards.count([]) == 0
    assert list(shards.read([path]).as_numpy_iterator()) == RECORDS


def test_a_file_without_records_is_intact(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "none.gz"), "GZIP"):
        pass
    assert shards.count([tmp_path / "none.gz"]) == 0


@pytest.mark.parametrize("size", [0, 1, 10, 0.1, 0.5, 0.99, -9, -8, -4, -1])
def test_a_truncated_file_is_named(path, size):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(size * len(whole)) if 0 < size < 1 else size])
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        shards.count([path])
    number, at = map(int, re.search(r"record (\d+), at byte (\d+)", str(error.value)).groups())
    assert at == sum(SIZES[: number - 1])


def test_a_changed_byte_is_detected(path):
    whole = path.read_bytes()
    for at in range(12, len(whole), max(1, len(whole) // 37)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        # Some bits have no effect on the content, such as those of unused codes.
        if _unpacked(path.read_bytes()) != gzip.decompress(whole):
            with pytest.raises(InputError, match=re.escape(str(path))):
                shards.count([path])


def _unpacked(content):
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None


def test_an_intact_file_next_to_it_is_not_named(path, tmp_path):
    other = tmp_path / "other.gz"
    other.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as error:
        shards.count([path, other])
    assert str(other) in str(error.value) and str(path) not in str(error.value)

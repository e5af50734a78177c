"""Maps strings to ids and back, by the same rule in the pipeline, in memory and in serving.

Line i of a vocabulary file has the id FIRST_ID + i; any other string is OOV.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, OOV, PAD, Feature
from cmclrec_tf.types import Tensor

# Between the values of a cross: the unit separator of ASCII, which is no white space.
CROSS_SEPARATOR = "\x1f"


def clean(feature: Feature, values: Tensor) -> Tensor:
    """Brings raw values of a string feature into the form that its vocabulary holds.

    Args:
        feature: the feature; its `prefix` applies.
        values: string tensor of any shape.

    Returns:
        String tensor of the same shape, stripped and cut to `feature.prefix` bytes.
    """
    values = tf.strings.strip(values)
    if feature.prefix:
        # Counting characters would raise on malformed text; cutting bytes never does.
        values = tf.strings.substr(values, 0, feature.prefix, unit="BYTE")
    return values


def cross(parts: Sequence[Tensor]) -> Tensor:
    """Joins the values of several string features to those of a `cross`.

    Args:
        parts: for each feature strings of one shape, cleaned; "" is missing.

    Returns:
        Strings of the same shape, "" where a part is missing.
    """
    is_known = tf.reduce_all(tf.stack([part != "" for part in parts]), axis=0)
    return tf.where(is_known, tf.strings.join(parts, CROSS_SEPARATOR), "")


def read(path: str) -> list[str]:
    """Returns the tokens of a vocabulary file, in id order.

    Raises:
        InputError: the file does not exist.
    """
    if not tf.io.gfile.exists(path):
        raise InputError(path, "the vocabulary file must exist", "Prepare the dataset again.")
    with tf.io.gfile.GFile(path, "rb") as file:
        return [decode(line) for line in file.read().split(b"\n") if line]


def decode(token: bytes) -> str:
    """Returns the text of a token; bytes that are not UTF-8 become surrogates."""
    return token.decode("utf-8", "surrogateescape")


def encode(token: str) -> bytes:
    """Returns the bytes of a token's text, the inverse of `decode`."""
    return token.encode("utf-8", "surrogateescape")


def digest(vocabularies: Mapping[str, Iterable[str]]) -> str:
    """Returns one hash, in hexadecimal, of several vocabularies: tokens by name."""
    state = hashlib.sha256()
    for name in sorted(vocabularies):
        state.update(b"\n".join([name.encode(), *map(encode, vocabularies[name]), b""]))
    return state.hexdigest()[:16]


class Lookup(tf.Module):
    """Maps strings to ids; an exported graph carries the vocabulary file as an asset.

    Args:
        path: path of the vocabulary file.
        name: name of the module.
    """

    def __init__(self, path: str, name: str | None = None) -> None:
        super().__init__(name=name)
        self.table = _table(path, (tf.string, _LINE), (tf.int64, _NUMBER), -1)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns int32 ids of strings of any shape; "" is PAD and an unknown token OOV."""
        ids = tf.maximum(tf.cast(self.table.lookup(tokens), tf.int32) + FIRST_ID, OOV)
        return tf.where(tokens == "", PAD, ids)


class JointLookup(tf.Module):
    """Maps the strings of several columns to ids, each by a vocabulary of its own, in one look-up.

    An exported graph holds the vocabularies themselves.

    Args:
        paths: paths of the vocabulary files, one for each column.
        name: name of the module.
    """

    def __init__(self, paths: Sequence[str], name: str | None = None) -> None:
        super().__init__(name=name)
        self.prefixes = [f"{column}:" for column in range(len(paths))]
        ids = {"": PAD}  # a table must not be empty; no key of a column is
        for prefix, path in zip(self.prefixes, paths, strict=True):
            ids[prefix] = PAD
            ids |= {prefix + token: id_ for id_, token in enumerate(read(path), FIRST_ID)}
        entries = [encode(key) for key in ids], list(ids.values())
        initializer = tf.lookup.KeyValueTensorInitializer(*entries, tf.string, tf.int32)
        self.table = tf.lookup.StaticHashTable(initializer, OOV)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns int32 ids [B, N] of strings [B, N]; "" is PAD and an unknown token OOV."""
        return self.table.lookup(tf.constant(self.prefixes) + tokens)


class ReverseLookup(tf.Module):
    """Maps ids to strings; PAD, OOV and ids beyond the vocabulary give "".

    Args:
        path: path of the vocabulary file.
        name: name of the module.
    """

    def __init__(self, path: str, name: str | None = None) -> None:
        super().__init__(name=name)
        self.table = _table(path, (tf.int64, _NUMBER), (tf.string, _LINE), "")

    def __call__(self, ids: Tensor) -> Tensor:
        """Returns the strings of integer ids of any shape."""
        return self.table.lookup(tf.cast(ids, tf.int64) - FIRST_ID)


_LINE, _NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER


def _table(
    path: str, key: tuple[Any, Any], value: tuple[Any, Any], default: int | str
) -> tf.lookup.StaticHashTable:
    """Builds a table from a text file; key and value are pairs of dtype and TextFileIndex."""
    initializer = tf.lookup.TextFileInitializer(path, *key, *value)
    return tf.lookup.StaticHashTable(initializer, default)

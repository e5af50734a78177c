"""From strings to ids: one rule for the pipeline, for tables in memory and for the served graph.

Line i of a vocabulary file has the id FIRST_ID + i; anything else is OOV.
"""

import hashlib

import tensorflow as tf

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, OOV, PAD


def clean(feature, values):
    """Brings a string feature's raw values to the form that its vocabulary holds.

    Args:
        feature: the `schema.Feature`.
        values: string tensor of any shape.

    Returns:
        String tensor of the same shape: stripped, cut to `feature.prefix` bytes.
    """
    values = tf.strings.strip(values)
    if feature.prefix:
        # Counting characters would raise on malformed text; cutting bytes never does.
        values = tf.strings.substr(values, 0, feature.prefix, unit="BYTE")
    return values


def read(path):
    """The tokens of a vocabulary file, in id order."""
    if not tf.io.gfile.exists(path):
        raise InputError(path, "the vocabulary file must exist", "Prepare the dataset again.")
    with tf.io.gfile.GFile(path, "rb") as file:
        return [decode(line) for line in file.read().split(b"\n") if line]


def decode(token):
    """The text of a token's bytes; those that are no UTF-8 become surrogates."""
    return token.decode("utf-8", "surrogateescape")


def encode(token):
    """The bytes of a token's text: the inverse of `decode`."""
    return token.encode("utf-8", "surrogateescape")


def digest(vocabularies):
    """A digest of several vocabularies: {name: tokens} -> hex string."""
    state = hashlib.sha256()
    for name in sorted(vocabularies):
        state.update(b"\n".join([name.encode(), *map(encode, vocabularies[name]), b""]))
    return state.hexdigest()[:16]


class Lookup(tf.Module):
    """Strings to ids, with the vocabulary file as an asset of an exported graph."""

    def __init__(self, path, name=None):
        super().__init__(name=name)
        self.table = _table(path, (tf.string, _LINE), (tf.int64, _NUMBER), -1)

    def __call__(self, tokens):
        """int32 ids of string `tokens`, any shape; "" is PAD and an unknown token OOV."""
        lines = self.table.lookup(tokens)
        ids = tf.where(lines < 0, OOV, tf.cast(lines, tf.int32) + FIRST_ID)
        return tf.where(tokens == "", PAD, ids)


class ReverseLookup(tf.Module):
    """Ids back to strings; PAD, OOV and ids beyond the vocabulary give ""."""

    def __init__(self, path, name=None):
        super().__init__(name=name)
        self.table = _table(path, (tf.int64, _NUMBER), (tf.string, _LINE), "")

    def __call__(self, ids):
        """Strings of integer `ids`, any shape."""
        return self.table.lookup(tf.cast(ids, tf.int64) - FIRST_ID)


_LINE, _NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER


def _table(path, key, value, default):
    """A table from a text file; key and value are pairs of dtype and TextFileIndex."""
    initializer = tf.lookup.TextFileInitializer(path, *key, *value)
    return tf.lookup.StaticHashTable(initializer, default)

"""Small tables in memory to a prepared dataset, for tests and notebooks."""

import collections
import pathlib
import shutil
import tempfile

import tensorflow as tf

from cmclrec_tf import vocabulary
from cmclrec_tf.input import VOCABULARIES, PreparedDataset, write_description
from cmclrec_tf.schema import (
    HISTORY,
    ITEMS,
    SEGMENT,
    SPLITS,
    TARGET,
    TRAIN,
    USER_ID,
    WARM,
    Schema,
)


def prepare_tables(records, features, folder, max_history=50, name="tables"):
    """Writes user records as a prepared dataset and loads it.

    Args:
        records: {split: [record]}; a record is a dict of user_id, history and target (item ids,
            oldest first), segment (`warm` unless given) and the user features: a string, a list
            of strings, a number, or None where missing.
        features: `schema.Feature`s.
        folder: where to write; replaced when it exists.

    Returns:
        `PreparedDataset`, by the same schema, vocabulary rule and reader as the pipeline's.

    Raises:
        InputError: no users in a split that is read later.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    schema = Schema(tuple(features))
    train = [_raw(record, schema) for record in records[TRAIN]]
    (aside / VOCABULARIES).mkdir()
    lines = {}
    for field in schema.vocabularies:
        sources = (HISTORY, TARGET) if field == ITEMS else (field,)
        counts = collections.Counter(token for r in train for s in sources for token in r[s])
        # Most frequent first; ties in the reverse order of the text, as TensorFlow Transform does.
        tokens = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
        (aside / VOCABULARIES / field).write_bytes(b"".join(t.encode() + b"\n" for t in tokens))
        lines[field] = {token: i + 2 for i, token in enumerate(tokens)}
    for split in SPLITS:
        (aside / split).mkdir()
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        with tf.io.TFRecordWriter(str(aside / split / "users-00000.gz"), options) as writer:
            for record in records.get(split, ()):
                writer.write(_example(_raw(record, schema), schema, lines))
    counts = {split: len(records.get(split, ())) for split in SPLITS}
    write_description(aside, name, schema.features, max_history, counts)
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    return PreparedDataset.load(folder)


def _raw(record, schema):
    """The record with every feature as a list of cleaned values."""
    raw = {
        USER_ID: str(record[USER_ID]),
        SEGMENT: record.get(SEGMENT, WARM),
        HISTORY: [str(item) for item in record[HISTORY]],
        TARGET: [str(item) for item in record[TARGET]],
    }
    for feature in schema.features:
        value = record.get(feature.name)
        values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
        if feature.is_numeric:
            raw[feature.name] = [float(v) for v in values]
        else:
            cleaned = vocabulary.clean(feature, tf.constant([str(v) for v in values], tf.string))
            raw[feature.name] = [token.decode() for token in cleaned.numpy() if token]
    return raw


def _example(raw, schema, lines):
    def ids(field, tokens):
        return _ints([lines[field].get(token, 1) for token in tokens])

    fields = {
        USER_ID: _bytes(raw[USER_ID]),
        SEGMENT: _bytes(raw[SEGMENT]),
        HISTORY: ids(ITEMS, raw[HISTORY]),
        TARGET: ids(ITEMS, raw[TARGET]),
    }
    for feature in schema.features:
        values = raw[feature.name]
        if feature.is_numeric:
            fields[feature.name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            fields[feature.name] = ids(feature.name, values)
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


def _bytes(text):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))


def _ints(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

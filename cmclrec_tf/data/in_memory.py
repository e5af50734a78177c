"""Small tables in memory to a prepared dataset, for tests and notebooks."""

import collections
import pathlib
import shutil
import tempfile

import tensorflow as tf

from cmclrec_tf.data import vocabulary
from cmclrec_tf.data.prepared import (
    VOCABULARIES,
    PreparedDataset,
    check_replaceable,
    write_description,
)
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import (
    COLD,
    FIRST_ID,
    HISTORY,
    ITEMS,
    OOV,
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
        folder: where to write; an older prepared dataset is replaced.

    Returns:
        `PreparedDataset`, by the same schema, vocabulary rule and reader as the pipeline's.

    Raises:
        InputError: no train users, an unknown split, segment or field, an item id that is empty or
            holds a line's end, a folder that holds something else.
    """
    folder, schema = pathlib.Path(folder), Schema(tuple(features))
    _check_splits(records)
    check_replaceable(folder)
    raw = {split: [_raw(record, schema) for record in records.get(split, ())] for split in SPLITS}
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _write(aside, raw, schema)
        counts = {split: len(rows) for split, rows in raw.items()}
        write_description(aside, name, schema.features, max_history, counts)
        aside.chmod(0o755)  # mkdtemp's folder is private
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return PreparedDataset.load(folder)


def _check_splits(records):
    unknown = sorted(set(records) - set(SPLITS))
    if unknown:
        raise InputError(f"splits {unknown}", f"splits are {list(SPLITS)}", "Correct the name.")
    if not records.get(TRAIN):
        raise InputError("no train users", "vocabularies come from them", "Add some.")


def _write(folder, raw, schema):
    """Vocabularies of the train split, and every split's records by them."""
    (folder / VOCABULARIES).mkdir()
    ids = {}
    for field in schema.vocabularies:
        sources = (HISTORY, TARGET) if field == ITEMS else (field,)
        counts = collections.Counter(token for r in raw[TRAIN] for s in sources for token in r[s])
        # Most frequent first; ties in the reverse order of the text, as TensorFlow Transform does.
        tokens = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
        lines = b"".join(vocabulary.encode(token) + b"\n" for token in tokens)
        (folder / VOCABULARIES / field).write_bytes(lines)
        ids[field] = {token: i for i, token in enumerate(tokens, FIRST_ID)}
    for split, rows in raw.items():
        (folder / split).mkdir()
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        with tf.io.TFRecordWriter(str(folder / split / "users-00000.gz"), options) as writer:
            for row in rows:
                writer.write(_example(row, schema, ids))


def _raw(record, schema):
    """The record with every feature as a list of cleaned values."""
    known = {USER_ID, SEGMENT, HISTORY, TARGET, *(f.name for f in schema.features)}
    missing = {USER_ID, HISTORY, TARGET} - set(record)
    if missing or set(record) - known:
        raise InputError(
            f"a record with the fields {sorted(record)}",
            f"the fields are {sorted(known)}",
            "Correct the names, or add the user feature.",
        )
    segment = record.get(SEGMENT, WARM)
    if segment not in (WARM, COLD):
        raise InputError(f"segment {segment!r}", f"it is {WARM} or {COLD}", "Correct it.")
    raw = {
        USER_ID: str(record[USER_ID]),
        SEGMENT: segment,
        HISTORY: [_item(item) for item in record[HISTORY]],
        TARGET: [_item(item) for item in record[TARGET]],
    }
    for feature in schema.features:
        value = record.get(feature.name)
        values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
        if feature.is_numeric and values and len(values) != feature.numbers:
            raise InputError(
                f"user feature {feature.name!r} with {len(values)} numbers",
                f"it has {feature.numbers}, or none",
                "Correct it.",
            )
        raw[feature.name] = (
            [float(v) for v in values] if feature.is_numeric else _tokens(feature, values)
        )
    return raw


def _item(item):
    item = str(item)
    if not item or "\n" in item:
        raise InputError(f"item {item!r}", "an id is one line and not empty", "Rename the item.")
    return item


def _tokens(feature, values):
    cleaned = vocabulary.clean(feature, tf.constant([str(v) for v in values], tf.string)).numpy()
    return [vocabulary.decode(token) for token in cleaned if token]


def _example(raw, schema, lines):
    def ids(field, tokens):
        return _ints([lines[field].get(token, OOV) for token in tokens])

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
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[vocabulary.encode(text)]))


def _ints(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

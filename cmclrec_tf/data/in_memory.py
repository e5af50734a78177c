"""Turns small tables in memory into a prepared dataset, for tests and notebooks."""

import collections
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

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
    Feature,
    Schema,
)

# A user record: values by field name, strings and numbers alike.
Record: TypeAlias = Mapping[str, Any]


def prepare_tables(
    records: Mapping[str, Sequence[Record]],
    features: Iterable[Feature],
    folder: str | os.PathLike[str],
    max_history: int = 50,
    name: str = "tables",
) -> PreparedDataset:
    """Writes user records as a prepared dataset and loads it.

    The schema, the vocabulary rule and the reader are those of the pipeline.

    Args:
        records: records by split (`train`, `val`, `test`). A record is a dict with `user_id`,
            `history` and `target` (item ids, oldest first), `segment` (`warm` by default) and the
            user features: a string, a list of strings, a number, or None where missing.
        features: the user features.
        folder: folder of the prepared dataset; an older one there is replaced.
        max_history: L.
        name: name of the dataset.

    Raises:
        InputError: no train users; an unknown split, segment or field; an item id that is empty or
            has a line break; a folder that holds something else.

    Example:
        >>> import tempfile
        >>> import cmclrec_tf as cm
        >>> user = {"user_id": "ann", "history": ["tea", "milk"], "target": ["bread"], "age": 31.0}
        >>> features = [cm.Feature("age", "numeric")]
        >>> data = cm.prepare_tables({"train": [user]}, features, tempfile.mkdtemp())
        >>> data.user_ids("train")
        ['ann']
    """
    folder, schema = pathlib.Path(folder), Schema(tuple(features))
    _check_splits(records)
    check_replaceable(folder)
    rows = {split: [_cleaned(r, schema) for r in records.get(split, ())] for split in SPLITS}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder first, so that a failure leaves the old dataset as it is.
    partial = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _write(partial, rows, schema)
        counts = {split: len(users) for split, users in rows.items()}
        write_description(partial, name, schema.features, max_history, counts)
        partial.chmod(0o755)  # mkdtemp's folder is private
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PreparedDataset.load(folder)


def _check_splits(records: Mapping[str, Sequence[Record]]) -> None:
    unknown = sorted(set(records) - set(SPLITS))
    if unknown:
        raise InputError(f"splits {unknown}", f"splits are {list(SPLITS)}", "Correct the name.")
    if not records.get(TRAIN):
        raise InputError("no train users", "vocabularies come from them", "Add some.")


def _write(folder: pathlib.Path, rows: dict[str, list[Record]], schema: Schema) -> None:
    """Writes the vocabularies of the train split, and the records of every split as ids."""
    (folder / VOCABULARIES).mkdir()
    ids = {}
    for field in schema.vocabularies:
        sources = (HISTORY, TARGET) if field == ITEMS else (field,)
        counts = collections.Counter(token for r in rows[TRAIN] for s in sources for token in r[s])
        # Most frequent first; ties in reverse order of the text, as TensorFlow Transform does.
        tokens = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
        lines = b"".join(vocabulary.encode(token) + b"\n" for token in tokens)
        (folder / VOCABULARIES / field).write_bytes(lines)
        ids[field] = {token: i for i, token in enumerate(tokens, FIRST_ID)}
    for split, users in rows.items():
        (folder / split).mkdir()
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        with tf.io.TFRecordWriter(str(folder / split / "users-00000.gz"), options) as writer:
            for user in users:
                writer.write(_example(user, schema, ids))


def _cleaned(record: Record, schema: Schema) -> Record:
    """Checks a record and returns it with every feature as a list of cleaned values."""
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
    cleaned = {
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
        cleaned[feature.name] = (
            [float(v) for v in values] if feature.is_numeric else _tokens(feature, values)
        )
    return cleaned


def _item(item: object) -> str:
    text = str(item)
    if not text or "\n" in text:
        raise InputError(f"item {text!r}", "an id is one line and not empty", "Rename the item.")
    return text


def _tokens(feature: Feature, values: Sequence[object]) -> list[str]:
    strings = tf.constant([str(v) for v in values], tf.string)
    return [vocabulary.decode(t) for t in vocabulary.clean(feature, strings).numpy() if t]


def _example(record: Record, schema: Schema, ids: Mapping[str, Mapping[str, int]]) -> bytes:
    """Serializes a cleaned record, with ids in place of strings."""

    def to_ids(field: str, tokens: Iterable[str]) -> tf.train.Feature:
        values = [ids[field].get(token, OOV) for token in tokens]
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    fields = {
        USER_ID: _bytes(record[USER_ID]),
        SEGMENT: _bytes(record[SEGMENT]),
        HISTORY: to_ids(ITEMS, record[HISTORY]),
        TARGET: to_ids(ITEMS, record[TARGET]),
    }
    for feature in schema.features:
        values = record[feature.name]
        if feature.is_numeric:
            fields[feature.name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            fields[feature.name] = to_ids(feature.name, values)
    example = tf.train.Example(features=tf.train.Features(feature=fields))
    serialized: bytes = example.SerializeToString()
    return serialized


def _bytes(text: str) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[vocabulary.encode(text)]))

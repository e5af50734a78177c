"""Turns small tables in memory into a prepared dataset, for tests and notebooks."""

import collections
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from cmclrec_tf.config import DataConfig
from cmclrec_tf.data.description import check_replaceable, write_description
from cmclrec_tf.data.prepared import VOCABULARIES, PreparedDataset
from cmclrec_tf.data.table_records import CheckedRecord, checked_record
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import replace_folder
from cmclrec_tf.schema import (
    FIRST_ID,
    HISTORY,
    ITEMS,
    OOV,
    SEGMENT,
    SPLITS,
    TARGET,
    TIMES,
    TRAIN,
    USER_ID,
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

    The schema, the vocabulary rule and the reader are those of the pipeline. Ids and categories may
    be numbers: `text_forms` says what text they have, in tables, files and requests alike.

    Args:
        records: records by split (`train`, `val`, `test`). A record is a dict with `user_id`,
            `history` and `target` (item ids, oldest first), `segment` (`warm` by default), the
            times of the items if they are known (`history_time` and `target_time`, whole numbers),
            and the user features: a string, a list of strings, a number, a vector of numbers, a
            date as text, or None or NaN where missing. A cross is computed, and no field.
        features: the user features.
        folder: folder of the prepared dataset; an older one there is replaced.
        max_history: L.
        name: name of the dataset.

    Raises:
        InputError: no train users; `max_history` is not positive; an unknown split, segment or
            field; an item id that is missing; an item id or a category with a line break; a value
            that does not fit its field; a folder that holds something else. Errors of a record have
            its split, number and field.

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
    DataConfig(max_history=max_history)  # checks it
    check_replaceable(folder)
    rows = {
        split: [
            checked_record(record, schema, f"record {number} of {split}")
            for number, record in enumerate(records.get(split, ()))
        ]
        for split in SPLITS
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder first, so that a failure leaves the old dataset as it is.
    partial = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _write(partial, rows, schema)
        counts = {split: len(users) for split, users in rows.items()}
        write_description(partial, name, schema.features, max_history, counts)
        partial.chmod(0o755)  # mkdtemp's folder is private
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PreparedDataset.load(folder)


def _check_splits(records: Mapping[str, Sequence[Record]]) -> None:
    unknown = sorted(set(records) - set(SPLITS))
    if unknown:
        raise InputError(f"splits {unknown}", f"splits are {list(SPLITS)}", "Correct the name.")
    if not records.get(TRAIN):
        raise InputError("no train users", "vocabularies come from them", "Add some.")


def _write(folder: pathlib.Path, rows: dict[str, list[CheckedRecord]], schema: Schema) -> None:
    """Writes the vocabularies of the train split, and the records of every split as ids."""
    (folder / VOCABULARIES).mkdir()
    ids = {}
    for field in schema.vocabularies:
        sources = (HISTORY, TARGET) if field == ITEMS else (field,)
        counts = collections.Counter(token for r in rows[TRAIN] for s in sources for token in r[s])
        # Most frequent first; ties in reverse order of the bytes, as TensorFlow Transform does.
        tokens = sorted(counts, key=lambda token: (counts[token], token), reverse=True)
        (folder / VOCABULARIES / field).write_bytes(b"".join(token + b"\n" for token in tokens))
        ids[field] = {token: i for i, token in enumerate(tokens, FIRST_ID)}
    for split, users in rows.items():
        (folder / split).mkdir()
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        with tf.io.TFRecordWriter(str(folder / split / "users-00000.gz"), options) as writer:
            for user in users:
                writer.write(_example(user, schema, ids))


def _example(
    record: CheckedRecord, schema: Schema, ids: Mapping[str, Mapping[bytes, int]]
) -> bytes:
    """Serializes a checked record, with ids in place of strings."""

    def to_ids(field: str, tokens: Iterable[bytes]) -> tf.train.Feature:
        values = [ids[field].get(token, OOV) for token in tokens]
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    fields = {
        USER_ID: _bytes(record[USER_ID]),
        SEGMENT: _bytes(record[SEGMENT]),
        HISTORY: to_ids(ITEMS, record[HISTORY]),
        TARGET: to_ids(ITEMS, record[TARGET]),
    }
    for field in TIMES:
        times = tf.train.Int64List(value=record.get(field, ()))
        fields[field] = tf.train.Feature(int64_list=times)
    for feature in schema.features:
        values = record[feature.name]
        if feature.is_numeric:
            fields[feature.name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            fields[feature.name] = to_ids(feature.name, values)
    example = tf.train.Example(features=tf.train.Features(feature=fields))
    serialized: bytes = example.SerializeToString()
    return serialized


def _bytes(text: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))

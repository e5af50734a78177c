"""Turns small tables in memory into a prepared dataset, for tests and notebooks."""

import collections
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from cmclrec_tf.config import DataConfig
from cmclrec_tf.data import dates, text_forms, vocabulary
from cmclrec_tf.data.description import check_replaceable, write_description
from cmclrec_tf.data.prepared import VOCABULARIES, PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import replace_folder
from cmclrec_tf.schema import (
    COLD,
    DATE,
    FIRST_ID,
    HISTORY,
    ITEMS,
    MULTI,
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
# A checked record: its strings as bytes, every field but the segment and the user id as a list.
_Checked: TypeAlias = dict[str, Any]
_LARGEST = float(np.finfo(np.float32).max)


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
            `history` and `target` (item ids, oldest first), `segment` (`warm` by default) and the
            user features: a string, a list of strings, a number, a vector of numbers, a date as
            text, or None or NaN where missing. A cross is computed, and no field of a record.
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
            _checked(record, schema, f"record {number} of {split}")
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


def _write(folder: pathlib.Path, rows: dict[str, list[_Checked]], schema: Schema) -> None:
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


def _checked(record: object, schema: Schema, where: str) -> _Checked:
    """Checks a record; returns its text as bytes, and every feature as a list of values.

    Args:
        record: the record.
        schema: the user features.
        where: name of the record in errors.
    """
    known = {USER_ID, SEGMENT, HISTORY, TARGET, *(f.name for f in schema.inputs)}
    if not isinstance(record, Mapping):
        kind = type(record).__name__
        raise InputError(f"{where} (a {kind})", "it must be a mapping", "Pass a dict per user.")
    missing = {USER_ID, HISTORY, TARGET} - set(record)
    if missing or set(record) - known:
        raise InputError(
            f"{where} with the fields {sorted(map(str, record))}",
            f"the fields are {sorted(known)}",
            "Correct the names, or add the user feature.",
        )
    segment = record.get(SEGMENT, WARM)
    if segment not in (WARM, COLD):
        raise InputError(
            f"segment {segment!r} of {where}", f"it is {WARM} or {COLD}", "Correct it."
        )
    checked = {
        USER_ID: _id(record[USER_ID], f"{USER_ID} of {where}"),
        SEGMENT: segment.encode(),
        HISTORY: _items(record[HISTORY], f"{HISTORY} of {where}"),
        TARGET: _items(record[TARGET], f"{TARGET} of {where}"),
    }
    for feature in schema.inputs:
        place = f"user feature {feature.name!r} of {where}"
        values = _listed(record.get(feature.name))
        if feature.kind == DATE:
            checked[feature.name] = _days(_categories(feature, values, place), place)
        elif feature.is_numeric:
            checked[feature.name] = _numbers(feature, values, place)
        else:
            checked[feature.name] = _categories(feature, values, place)
    for feature in schema.features:
        if feature.of:
            parts = [checked[name] for name in feature.of]
            checked[feature.name] = [_crossed(parts)] if all(parts) else []
    return checked


def _id(value: object, where: str) -> bytes:
    """Returns the text of an id, which must not be missing."""
    text = text_forms.to_bytes(value, where)
    if not text:
        raise InputError(
            f"{where} ({value!r})", "it must not be missing or empty", "Add it, or leave it out."
        )
    return _one_line(text, where)


def _items(values: object, where: str) -> list[bytes]:
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping)):
        raise InputError(
            f"{where} (a {type(values).__name__})", "it must be a list of item ids", "Pass a list."
        )
    return [_id(value, where) for value in values]


def _listed(value: object) -> list[object]:
    """Returns the values of a user feature as a list; a single value is a list of one."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return list(np.ravel(value)) if isinstance(value, np.ndarray) else list(value)
    return [value]


def _categories(feature: Feature, values: Iterable[object], where: str) -> list[bytes]:
    texts = [_one_line(text_forms.to_bytes(v, where).strip(), where) for v in values]
    cleaned = vocabulary.clean(feature, tf.constant(texts, tf.string)).numpy()
    present = [text for text in cleaned if text]
    if feature.kind != MULTI and len(present) > 1:
        raise InputError(
            f"{where} with {len(present)} strings", "it has one, or none", "Make it multi."
        )
    return present


def _crossed(parts: Iterable[list[bytes]]) -> bytes:
    crossed: bytes = vocabulary.cross([tf.constant(part[0]) for part in parts]).numpy()
    return crossed


def _days(texts: list[bytes], where: str) -> list[float]:
    """Returns the days of a date, or nothing if it is missing."""
    days = [dates.days_of(vocabulary.decode(text)) for text in texts]
    if None in days:
        raise InputError(
            f"{vocabulary.decode(texts[0])!r} in {where}",
            "it must be a date such as 2024-04-30, or that with a time of day in UTC",
            "Correct it, or pass None.",
        )
    return [float(day) for day in days if day is not None]


def _one_line(text: bytes, where: str) -> bytes:
    if not text_forms.is_one_line(text):
        raise InputError(
            f"{vocabulary.decode(text)!r} in {where}",
            "ids and categories have neither CR nor LF: a vocabulary file has one of them a line",
            "Replace the line break.",
        )
    return text


def _numbers(feature: Feature, values: list[object], where: str) -> list[float]:
    """Returns the numbers of a numeric feature: all of them, or none if one is missing."""
    parsed = [_number(value, where) for value in values]
    if len(parsed) not in (0, feature.numbers) and parsed != [None]:
        raise InputError(
            f"{where} with {len(parsed)} numbers",
            f"it has {feature.numbers}, or none",
            "Correct it.",
        )
    present = [number for number in parsed if number is not None]
    return present if len(present) == len(parsed) else []


def _number(value: Any, where: str) -> float | None:
    """Returns a number; None if it is missing, as blank text and the text "nan" are."""
    if text_forms.is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        # Python reads "1_000" as a number; no file format does.
        number = math.inf if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if abs(number) > _LARGEST:
        raise InputError(
            f"{value!r} in {where}", "it must be a finite 32-bit float", "Correct it, or pass None."
        )
    return None if math.isnan(number) else number


def _example(record: _Checked, schema: Schema, ids: Mapping[str, Mapping[bytes, int]]) -> bytes:
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

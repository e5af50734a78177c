"""Reads the events of a split with their times."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cmclrec_tf.data import parsing
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import HISTORY, HISTORY_TIME, TARGET, TARGET_TIME
from cmclrec_tf.types import Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

Ints: TypeAlias = NDArray[np.int64]

_BATCH = 1024


def timed_events(dataset: "PreparedDataset", split: str) -> tuple[Ints, Ints]:
    """Returns the items of all events of a split, and their times.

    A target without a time counts at the time of the newest event of its history.

    Args:
        dataset: the prepared dataset; its `max_history` newest events of every history count.
        split: `train`, `val` or `test`.

    Returns:
        Item ids int [n] and times int [n], in the unit of the log.

    Raises:
        InputError: the split has no files, or its records have no times.
    """
    items, times = [], []
    for record in _records(dataset, split):
        history, history_time = (
            record[name][:, -dataset.max_history :] for name in (HISTORY, HISTORY_TIME)
        )
        newest = parsing.request_times(history_time, record[TARGET_TIME])
        target = record[TARGET][:, -1:]
        has_time = newest.row_lengths() > 0
        items += [history.values, tf.ragged.boolean_mask(target, has_time).values]
        times += [history_time.values, newest.values]
    return _joined(items), _joined(times)


def check(dataset: "PreparedDataset", split: str) -> None:
    """Checks that the records of a split have the times of their histories.

    Raises:
        InputError: they have not.
    """
    for _ in _records(dataset, split):
        pass


def _records(dataset: "PreparedDataset", split: str) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Yields the events of a batch of records as ragged tensors by field."""
    ragged = tf.io.RaggedFeature(tf.int64)
    spec = dict.fromkeys((HISTORY, HISTORY_TIME, TARGET, TARGET_TIME), ragged)
    for batch in dataset.records(split).batch(_BATCH):
        parsed = tf.io.parse_example(batch, spec)
        if (parsed[HISTORY].row_lengths() != parsed[HISTORY_TIME].row_lengths()).numpy().any():
            raise InputError(
                f"dataset {dataset.name}",
                "the records must have the times of their histories",
                "Prepare it from raw files with `cmclrec prepare`.",
            )
        yield parsed


def _joined(parts: list[Tensor]) -> Ints:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])

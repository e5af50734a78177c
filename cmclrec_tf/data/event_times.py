"""Reads the events of a split with their times."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import HISTORY, HISTORY_TIME, TARGET
from cmclrec_tf.types import Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

Ints: TypeAlias = NDArray[np.int64]

_BATCH = 1024


def timed_events(dataset: "PreparedDataset", split: str) -> tuple[Ints, Ints]:
    """Returns the items of all events of a split, and their times.

    A record has no time of its target, which is the last event. It counts at the time of the newest
    event of the history.

    Args:
        dataset: the prepared dataset; its `max_history` newest events of every history count.
        split: `train`, `val` or `test`.

    Returns:
        Item ids int [n] and times int [n], in the unit of the log.

    Raises:
        InputError: the split has no files, or its records have no times.
    """
    ragged = tf.io.RaggedFeature(tf.int64)
    spec = dict.fromkeys((HISTORY, HISTORY_TIME, TARGET), ragged)
    items, times = [], []
    for batch in dataset.records(split).batch(_BATCH):
        parsed = tf.io.parse_example(batch, spec)
        history, history_time = (
            parsed[name][:, -dataset.max_history :] for name in (HISTORY, HISTORY_TIME)
        )
        if (history.row_lengths() != history_time.row_lengths()).numpy().any():
            raise InputError(
                f"dataset {dataset.name}",
                "the records must have the times of their histories",
                "Prepare it from raw files with `cmclrec prepare`.",
            )
        newest = history_time[:, -1:]
        target = parsed[TARGET][:, -1:]
        has_time = newest.row_lengths() > 0
        items += [history.values, tf.ragged.boolean_mask(target, has_time).values]
        times += [history_time.values, newest.values]
    return _joined(items), _joined(times)


def _joined(parts: list[Tensor]) -> Ints:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])

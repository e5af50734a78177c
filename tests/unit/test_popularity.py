"""Popularity of the newest events, on records typed out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.data.event_times import timed_events
from cmclrec_tf.errors import InputError


def _write(path, users):
    """Writes users [(history, times, target, its time)] as a file of train records."""
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
        for history, times, target, *now in users:
            values = {"history": history, "history_time": times, "target": [target]}
            values |= {"target_time": now} if now else {}
            feature = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=ids))
                for name, ids in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


@pytest.fixture
def timed(dataset, tmp_path):
    """The dataset of the tests with other train records: events of the times 1 to 9."""
    _write(
        tmp_path / "users.gz",
        [([2, 3, 4], [1, 8, 8], 5, 9), ([2, 6], [2, 2], 2), ([], [], 3), ([7, 8], [7, 7], 9)],
    )
    return dataclasses.replace(dataset, files={"train": (str(tmp_path / "users.gz"),)})


def test_a_target_without_a_time_has_that_of_the_event_before(timed):
    items, times = timed_events(timed.with_history(2), "train")
    pairs = sorted(zip(times.tolist(), items.tolist(), strict=True))
    assert pairs == [(2, 2), (2, 2), (2, 6), (7, 7), (7, 8), (7, 9), (8, 3), (8, 4), (9, 5)]


@pytest.mark.parametrize(
    ("share", "recent"),
    [
        (0.01, [5]),
        (0.3, [3, 4, 5]),
        # Three events have the time 7, and all of them count.
        (0.4, [3, 4, 5, 7, 8, 9]),
        (1.0, [2, 2, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_the_newest_share_of_all_events_counts(timed, share, recent):
    scores = Popularity(timed, "recent", share=share).scores
    np.testing.assert_array_equal(scores, np.bincount(recent, minlength=len(scores)))


def test_records_without_times_and_other_shares_are_refused(dataset):
    with pytest.raises(InputError, match="must have the times of their histories"):
        Popularity(dataset, "recent")
    for share in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="share="):
            Popularity(dataset, "recent", share=share)
    with pytest.raises(InputError, match="events='new'"):
        Popularity(dataset, "new")

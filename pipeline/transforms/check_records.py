"""Checks invariants of every user record as it is written."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.config import BY_TIME, BY_USERS, DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import (
    COLD,
    HISTORY,
    HISTORY_TIME,
    SEGMENT,
    SPLITS,
    TARGET,
    TARGET_TIME,
    TEST,
    USER_ID,
)
from pipeline.transforms.elements import TimedItem, UserRecord

_FIX = "Check pipeline/transforms: none of its inputs may lead to this."


class CheckRecords(beam.PTransform):
    """Checks that no test user leaks into training, and passes the records on unchanged.

    Three rules hold: a cold record has no history, cold users are in the test split only, and no
    user has two records. Only user ids are grouped, to count them.

    Input and output: `{split: collection}`, whose elements are user records `{field: values}`.

    Args:
        data: settings of the data. With the split `leave-one-out` each user has one record in
            every split. With `time` warm test users have another record, in train or val.

    Raises:
        InputError: while running, at the first record that breaks a rule.
    """

    def __init__(self, data: DataConfig):
        super().__init__()
        self._kind = data.split

    @no_annotations
    def expand(self, records: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        keys = [
            records_of_split | f"Check[{split}]" >> beam.FlatMap(self._check, split)
            for split, records_of_split in records.items()
        ]
        _ = (
            keys
            | "Together" >> beam.Flatten()
            | "Count" >> beam.combiners.Count.PerElement()
            | "Once" >> beam.MapTuple(_check_count)
        )
        return records

    def _check(self, record, split):
        """Checks the rules of a single record; returns keys of which no two records have one."""
        _check_cold(record, split)
        user = record[USER_ID][0]
        if self._kind == BY_USERS:
            return [user]
        if self._kind != BY_TIME:
            return [(split, user)]
        is_cold = record[SEGMENT] == [COLD.encode()]
        is_test = split == TEST
        return [(is_test, user), *([(False, user)] if is_test and is_cold else [])]


def check_sides(
    split: str, record: UserRecord, before: Sequence[TimedItem], later: Sequence[TimedItem]
) -> None:
    """Checks that nothing after T leaks into a record, with `data.split: time`.

    Args:
        split: split of the record.
        record: the user record.
        before: the user's newest events before T, oldest first.
        later: the user's first events at T or later, oldest first.

    Raises:
        InputError: the history is not the end of the events before T, which in train and val end
            with the target; or a target of test is no later item.
    """
    past, future = (before, later) if split == TEST else (before[:-1], before[-1:])
    history = _events(record, HISTORY_TIME, HISTORY)
    target = _events(record, TARGET_TIME, TARGET)
    is_past = history is not None and history == list(past[len(past) - len(history) :])
    if not is_past or target is None or not set(target) <= set(future):
        raise InputError(
            f"a record of split {split!r} with events of the other side of T",
            "train, val and every history end before T, and targets of test begin there",
            _FIX,
        )


def _events(record, times, items):
    """Returns `[(time, item)]` of two fields; None if one has more values than the other."""
    if len(record[times]) != len(record[items]):
        return None
    return list(zip(record[times], record[items], strict=True))


def _check_cold(record, split):
    if record[SEGMENT] == [COLD.encode()]:
        for name in (HISTORY, HISTORY_TIME):
            if record[name]:
                raise InputError(
                    f"a cold user of split {split!r} with {len(record[name])} values in {name!r}",
                    "what was removed must be gone from the record",
                    _FIX,
                )
        if split in SPLITS and split != TEST:
            raise InputError(
                f"a cold user in split {split!r}", "cold users must be in the test split", _FIX
            )


def _check_count(key, count):
    if count > 1:
        raise InputError(
            f"a user with {count} records", "a user must be in one split, and only once", _FIX
        )

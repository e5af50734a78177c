"""Checks invariants of every user record as it is written."""

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, HISTORY, HISTORY_TIME, SEGMENT, SPLITS, TEST, USER_ID

_FIX = "Check pipeline/transforms: none of its inputs may lead to this."


class CheckRecords(beam.PTransform):
    """Checks that no test user leaks into training, and passes the records on unchanged.

    Three rules hold: a cold record has no history, cold users are in the test split only, and no
    user has two records. Only user ids are grouped, to count them.

    Input and output: `{split: collection}`, whose elements are user records `{field: values}`.

    Args:
        data: settings of the data. With the split `leave-one-out` each user has one record in
            every split.

    Raises:
        InputError: while running, at the first record that breaks a rule.
    """

    def __init__(self, data: DataConfig):
        super().__init__()
        self._by_user = data.split == "users"

    @no_annotations
    def expand(self, records: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        users = []
        for split, records_of_split in records.items():
            keys = records_of_split | f"Check[{split}]" >> beam.Map(_check, split)
            if not self._by_user:
                keys |= f"Split[{split}]" >> beam.Map(_with_split, split)
            users.append(keys)
        _ = (
            users
            | "Together" >> beam.Flatten()
            | "Count" >> beam.combiners.Count.PerElement()
            | "Once" >> beam.MapTuple(_check_count)
        )
        return records


def _check(record, split):
    """Returns the user id of a record that keeps the rules."""
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
    return record[USER_ID][0]


def _with_split(user, split):
    return split, user


def _check_count(user, count):
    if count > 1:
        raise InputError(
            f"a user with {count} records", "a user must be in one split, and only once", _FIX
        )

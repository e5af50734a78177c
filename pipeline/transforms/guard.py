"""What no user record may be, looked at where the records are written."""

import apache_beam as beam

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, HISTORY, HISTORY_TIME, SEGMENT, SPLITS, TEST, USER_ID

_MEND = "Check pipeline/transforms: nothing that it reads may lead to this."


class Guarded(beam.PTransform):
    """Hands on `{split: collection of user records}` that keep training and judging apart.

    No cold record has a history, cold users are in the test split alone, and no user is in two
    splits or twice in one. Only user ids are brought together.

    Args:
        data: `DataConfig`; with `leave-one-out` every user is in every split, once.

    Raises:
        InputError: while running, at the first record that breaks a rule.
    """

    def __init__(self, data):
        super().__init__()
        self._by_user = data.split == "users"

    def expand(self, records):
        users = []
        for split, found in records.items():
            keys = found | f"Check[{split}]" >> beam.Map(_checked, split)
            if not self._by_user:
                keys |= f"Split[{split}]" >> beam.Map(_within, split)
            users.append(keys)
        _ = (
            users
            | "Together" >> beam.Flatten()
            | "Count" >> beam.combiners.Count.PerElement()
            | "Once" >> beam.MapTuple(_once)
        )
        return records


def _checked(record, split):
    """The user id of a record that keeps the rules."""
    if record[SEGMENT] == [COLD.encode()]:
        for name in (HISTORY, HISTORY_TIME):
            if record[name]:
                raise InputError(
                    f"a cold user of split {split!r} with {len(record[name])} values in {name!r}",
                    "what was removed must be gone from the record",
                    _MEND,
                )
        if split in SPLITS and split != TEST:
            raise InputError(
                f"a cold user in split {split!r}", "cold users are test users alone", _MEND
            )
    return record[USER_ID][0]


def _within(user, split):
    return split, user


def _once(user, count):
    if count > 1:
        raise InputError(f"a user with {count} records", "a user must be in one split, once", _MEND)

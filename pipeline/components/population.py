"""Checks whether the users that are left can be trained and evaluated on."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmclrec_tf.config import BY_TIME, DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, SPLITS, TEST, TRAIN, VAL, WARM
from pipeline.components import rejects
from pipeline.components.rejects import NO_ROWS, Summary
from pipeline.transforms import counters
from pipeline.transforms.record import ALL_USERS

if TYPE_CHECKING:
    from tfx.types import Artifact

    from pipeline.datasets.spec import DatasetSpec

# The property of an `examples` artifact that holds the counts.
COUNTS = "user_counts"

_USERS_FIX = "Give more users, or change data.salt, data.test_share or data.val_share."
_TIME_FIX = (
    "Give a T with users on both sides, by data.split_time, interactions.test_period or "
    "data.test_share; or change data.salt or data.val_share."
)

_POPULATIONS = ((TRAIN, WARM), (VAL, WARM), (TEST, WARM), (TEST, COLD))


def user_counts(examples: "Artifact") -> dict[str, int]:
    """Returns `{counter: number}`, which ExampleGen stores on its `examples` artifact."""
    return json.loads(examples.get_string_custom_property(COUNTS))


def users_by_split(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns `{split: number of records}` from the counters of `UserRecords`."""
    users = dict.fromkeys(SPLITS, 0)
    for split, segment in _POPULATIONS:
        users[split] += counts.get(counters.users_in(split, segment), 0)
    return users


def users_by_segment(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns `{segment: number of records}` from the counters of `CurrentUsers`."""
    return {
        segment: counts.get(counters.users_in(ALL_USERS, segment), 0) for segment in (WARM, COLD)
    }


def report(examples: "Artifact") -> str:
    """Returns the summary of an `examples` artifact, and a line for each kind of malformed row."""
    lines = rejects.summarize(rejects.rejects_folder(examples)).report()
    return "\n".join([summary(user_counts(examples)), *(f"  {line}" for line in lines)])


def summary(counts: Mapping[str, int]) -> str:
    """Returns one line on the users and rows that were kept and dropped."""
    parts = [
        f"{counts.get(counters.users_in(split, segment), 0)} {split} ({segment})"
        for split, segment in _POPULATIONS
    ]
    few, without = counts.get(counters.FEW_EVENTS, 0), counts.get(counters.WITHOUT_EVENTS, 0)
    sides = _sides(counts)
    before = " before T" if sides else ""
    return (
        f"{', '.join(parts)} users; dropped {few} with too few events{before} and {without} "
        f"without any; {counts.get(counters.WITHOUT_FEATURES, 0)} kept without user features, "
        f"{counts.get(counters.REPEATED, 0)} listed more than once"
        f"{sides}{_dropped_rows(counts)}"
    )


def _sides(counts: Mapping[str, int]) -> str:
    """Returns how many events lie at T or later; empty for splits without T."""
    # T is not known as a number if a column marks the test period.
    time = f", T = {counts[counters.SPLIT_TIME]}" if counters.SPLIT_TIME in counts else ""
    later = counts.get(counters.LATER_EVENTS, 0)
    if not later and not time:
        return ""
    return f"; {later} of {counts.get(counters.EVENTS, 0)} events at T or later{time}"


def _dropped_rows(counts: Mapping[str, int]) -> str:
    """Returns how many rows were left out and why; empty if none was."""
    reasons = {
        counters.NOT_KEPT: "are no events by the spec",
        counters.WITHOUT_TIME: "without time",
        counters.DUPLICATES: "repeated",
        counters.REJECTED: "malformed",
    }
    parts = [f"{counts[name]} {reason}" for name, reason in reasons.items() if counts.get(name)]
    return f"; rows left out: {', '.join(parts)}" if parts else ""


def check_current_users(
    counts: Mapping[str, int], spec: "DatasetSpec", malformed: Summary = NO_ROWS
) -> None:
    """Checks that there are users to recommend to, and not too many malformed rows.

    Args:
        counts: `{counter: number}` of `CurrentUsers`.
        spec: the dataset spec.
        malformed: the malformed rows; none by default.

    Raises:
        InputError: there is no user, or there are more than `max_rejects` malformed rows.
    """
    malformed.check(spec.max_rejects)
    if not sum(users_by_segment(counts).values()):
        raise InputError(
            f"0 users in {spec.users.file} and {spec.interactions.file}",
            "lists are made for the users of both files",
            "Give files with rows.",
        )


def check_population(
    counts: Mapping[str, int],
    spec: "DatasetSpec",
    data: DataConfig,
    malformed: Summary = NO_ROWS,
) -> None:
    """Checks the users that are left after filtering and splitting.

    Malformed rows alone are no error here: DataGate judges them. But if users are missing and there
    are too many malformed rows, the rows are the error, as they may be the reason.

    Args:
        counts: `{counter: number}` of `UserRecords`.
        spec: the dataset spec.
        data: settings of the data.
        malformed: the malformed rows; none by default.

    Raises:
        InputError: no user is left, a split or a segment is empty, or a user feature has no value
            in the train split.
    """
    try:
        _check_users(counts, spec, data, malformed)
    except InputError:
        malformed.check(spec.max_rejects)
        raise


def _check_users(counts, spec, data, malformed):
    total = sum(users_by_split(counts).values())
    few, events = counts.get(counters.FEW_EVENTS, 0), counts.get(counters.EVENTS, 0)
    log = spec.interactions.file
    if not total and not events:
        fix = "Give a log with rows."
        if counts.get(counters.NOT_KEPT):
            fix = "Correct interactions.keep in the dataset spec."
        if malformed.total:
            fix = f"Correct the malformed rows, which are in {malformed.folder}, or the spec."
        raise InputError(
            f"0 events in {log}{_dropped_rows(counts)}",
            f"a log must have events{_most_frequent(malformed)}",
            fix,
        )
    if not total:
        raise InputError(
            f"{few} users with {events} events in {log}{_dropped_rows(counts)}",
            f"users with fewer than data.min_events={data.min_events} events{_before(data)} are "
            f"dropped, and nobody is left{_most_frequent(malformed)}",
            "Lower data.min_events or give more events.",
        )
    for split, segment in _POPULATIONS:
        if segment == COLD and not data.has_cold_users:
            continue
        if not counts.get(counters.users_in(split, segment)):
            raise InputError(
                f"{total} user records ({few} users have fewer than {data.min_events} "
                f"events{_before(data)}){_sides(counts)}",
                f"the split {split!r} needs at least one {segment} user, and has none",
                _TIME_FIX if data.split == BY_TIME else _USERS_FIX,
            )
    for feature in spec.users.columns:
        if not counts.get(counters.users_with(feature.name)):
            raise InputError(
                f"user feature {feature.name!r}",
                "it must have a value for at least one user of the train split",
                "Drop it from the dataset spec, or check its column and the user ids.",
            )


def _before(data):
    return " before T" if data.split == BY_TIME else ""


def _most_frequent(malformed):
    fault = malformed.most_frequent()
    return f" (the most frequent fault: {fault})" if fault else ""

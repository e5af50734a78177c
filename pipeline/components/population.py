"""Whether the users that are left can be trained and evaluated on."""

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, SPLITS, TEST, TRAIN, VAL, WARM
from pipeline.transforms import counters
from pipeline.transforms.record import EVERYBODY

_POPULATIONS = ((TRAIN, WARM), (VAL, WARM), (TEST, WARM), (TEST, COLD))


def users_by_split(counts):
    """`{split: number of records}` of the counters of `UserRecords`."""
    users = dict.fromkeys(SPLITS, 0)
    for split, segment in _POPULATIONS:
        users[split] += counts.get(counters.kept(split, segment), 0)
    return users


def summary(counts) -> str:
    """One line on who was kept and who was dropped."""
    parts = [
        f"{counts.get(counters.kept(split, segment), 0)} {split} ({segment})"
        for split, segment in _POPULATIONS
    ]
    few, without = counts.get(counters.FEW_EVENTS, 0), counts.get(counters.WITHOUT_EVENTS, 0)
    return (
        f"{', '.join(parts)} users; dropped {few} with too few events and {without} without any; "
        f"{counts.get(counters.WITHOUT_FEATURES, 0)} kept without user features, "
        f"{counts.get(counters.REPEATED, 0)} listed more than once{_left_out(counts)}"
    )


def _left_out(counts):
    """What is said of rows that were left out; empty where none was."""
    said = {
        counters.NOT_KEPT: "are no events by the spec",
        counters.WITHOUT_TIME: "without time",
        counters.DUPLICATES: "repeated",
        counters.REJECTED: "malformed",
    }
    found = [f"{counts[name]} {words}" for name, words in said.items() if counts.get(name)]
    return f"; rows left out: {', '.join(found)}" if found else ""


def everybody(counts):
    """`{segment: number of records}` of the counters of `CurrentUsers`."""
    return {segment: counts.get(counters.kept(EVERYBODY, segment), 0) for segment in (WARM, COLD)}


def check_anybody(counts, spec) -> None:
    """Raises InputError when there is no user to recommend to, or too many rows are malformed."""
    rejected = counts.get(counters.REJECTED, 0)
    if rejected > spec.max_rejects:
        raise InputError(
            f"{rejected} malformed rows in {spec.users.file} and {spec.interactions.file}",
            f"max_rejects={spec.max_rejects} allows fewer",
            "Correct them; `cmclrec prepare` keeps them aside, with the reason of each.",
        )
    if not sum(everybody(counts).values()):
        raise InputError(
            f"0 users in {spec.users.file} and {spec.interactions.file}",
            "lists are made for the users of either file",
            "Give files with rows.",
        )


def check_population(counts, spec, data) -> None:
    """Looks at who is left after filtering and splitting.

    Args:
        counts: `{counter: number}` of `UserRecords`.
        spec: the `DatasetSpec`.
        data: `DataConfig`.

    Raises:
        InputError: no user is left, a split or a segment has nobody, or a user feature has no value
            in the train split.
    """
    kept = sum(users_by_split(counts).values())
    few = counts.get(counters.FEW_EVENTS, 0)
    if not kept:
        raise InputError(
            f"{few} users with {counts.get(counters.EVENTS, 0)} events in "
            f"{spec.interactions.file}{_left_out(counts)}",
            f"users with fewer than data.min_events={data.min_events} events are dropped, and "
            "nobody is left",
            "Lower data.min_events or give more events.",
        )
    for split, segment in _POPULATIONS:
        if segment == COLD and data.split != "users":
            continue
        if not counts.get(counters.kept(split, segment)):
            raise InputError(
                f"{kept} users ({few} more have fewer than {data.min_events} events)",
                f"the split {split!r} needs at least one {segment} user, and none was drawn",
                "Give more users, or change data.salt, data.test_share or data.val_share.",
            )
    for feature in spec.features:
        if not counts.get(counters.valued(feature.name)):
            raise InputError(
                f"user feature {feature.name!r}",
                "it must have a value for at least one user of the train split",
                "Drop it from the dataset spec, or check its column and the user ids.",
            )

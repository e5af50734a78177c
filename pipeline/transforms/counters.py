"""Counts what happens to rows and users while user records are made."""

from typing import Any

NAMESPACE = "user_records"

EVENTS = "events"
NOT_KEPT = "rows_not_kept"
WITHOUT_TIME = "rows_without_time"
DUPLICATES = "rows_repeated"
REJECTED = "rows_rejected"

# With `data.split: time`: T, and the number of events at T or later.
SPLIT_TIME = "split_time"
LATER_EVENTS = "events_later"

FEW_EVENTS = "users_with_few_events"
WITHOUT_EVENTS = "users_without_events"
WITHOUT_FEATURES = "users_without_features"
REPEATED = "users_repeated"


def users_in(split: str, segment: str) -> str:
    """Returns the name of the counter of users in a split and a segment."""
    return f"users_{split}_{segment}"


def users_with(feature: str) -> str:
    """Returns the name of the counter of train users that have a value of a feature."""
    return f"valued_{feature}"


def read(result: Any) -> dict[str, int]:
    """Reads all counters of a finished Beam run, and T of `data.split: time` if it has one.

    Args:
        result: the `PipelineResult`, which has no types.

    Returns:
        `{name: number}`.
    """
    # Beam takes seconds to import, and the names of the counters are needed without it.
    from apache_beam.metrics import MetricsFilter

    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    totals: dict[str, int] = {}
    for metric in metrics["counters"]:
        name = metric.key.metric.name
        totals[name] = totals.get(name, 0) + metric.result
    for metric in metrics["distributions"]:
        totals[metric.key.metric.name] = metric.result.max
    return totals

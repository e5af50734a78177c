"""What happened to rows and users on the way to records, in numbers."""

from apache_beam.metrics import MetricsFilter

NAMESPACE = "user_records"

EVENTS = "events"
NOT_KEPT = "rows_not_kept"
WITHOUT_TIME = "rows_without_time"
DUPLICATES = "rows_repeated"
REJECTED = "rows_rejected"

FEW_EVENTS = "users_with_few_events"
WITHOUT_EVENTS = "users_without_events"
WITHOUT_FEATURES = "users_without_features"
REPEATED = "users_repeated"


def kept(split, segment) -> str:
    """Name of the counter of users that are kept in a split and a segment."""
    return f"users_{split}_{segment}"


def valued(feature) -> str:
    """Name of the counter of train users that have a value of a feature."""
    return f"valued_{feature}"


def read(result):
    """`{name: number}` of a finished Beam run."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    totals = {}
    for metric in found:
        name = metric.key.metric.name
        totals[name] = totals.get(name, 0) + metric.result
    return totals

"""Segments and slices of the evaluated users, and how sure a mean over them is."""

import dataclasses
import math

from cmclrec_tf.schema import COLD, OVERALL, WARM

SEGMENTS = (WARM, COLD, OVERALL)
# The metric that counts the users of a segment or slice.
USERS = "users"
# Of a normal distribution: this many standard errors either way hold 95 %.
_QUANTILE = 1.959964
# More values of a feature than that are told of by their number alone.
MOST_VALUES = 10


@dataclasses.dataclass(frozen=True)
class Slice:
    """The users of one value of a user feature.

    Attributes:
        feature, value: which ones.
        segment: `warm`, `cold` or `overall`.
        metrics: `{metric: value}`, as of a segment.
    """

    feature: str
    value: str
    segment: str
    metrics: dict


def error_of(name) -> str:
    """Name under which the standard error of a mean over users is reported."""
    return f"{name}_error"


def interval(metrics, name):
    """Bounds of the 95 % confidence interval of a metric that is a mean over users.

    The mean and 1.96 standard errors either way, within 0 and 1: good for some dozens of users,
    too narrow for a few.

    Args:
        metrics: `{metric: value}` of a segment or slice.
        name: as in `ndcg@20`.

    Returns:
        `(low, high)`, both nan for a single user.
    """
    value, error = metrics[name], metrics[error_of(name)]
    if math.isnan(error):
        return math.nan, math.nan
    return max(value - _QUANTILE * error, 0.0), min(value + _QUANTILE * error, 1.0)


def told(metrics, name):
    """A mean and its interval as text: `0.1234 (0.1100 to 0.1368)`."""
    low, high = interval(metrics, name)
    value = f"{metrics[name]:.4f}"
    return value if math.isnan(low) else f"{value} ({low:.4f} to {high:.4f})"


def shown(slices):
    """The slices that there is room for: of each feature the values of the most users.

    Args:
        slices: list of `Slice`, feature by feature, largest values first.

    Returns:
        List of `Slice`, and `{feature: number of values left out}`.
    """
    values = {}
    for row in slices:
        values.setdefault(row.feature, {})[row.value] = None
    kept = {feature: [*found][:MOST_VALUES] for feature, found in values.items()}
    left_out = {
        feature: len(found) - MOST_VALUES
        for feature, found in values.items()
        if len(found) > MOST_VALUES
    }
    return [row for row in slices if row.value in kept[row.feature]], left_out

"""Defines segments and slices of the test users, and confidence intervals of their metrics."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from cmclrec_tf.schema import COLD, OVERALL, WARM

SEGMENTS = (WARM, COLD, OVERALL)

# The metric that counts the users of a segment or slice.
USERS = "users"

# The metric that counts the users who have a target in their history.
REPEATS = "repeats"

# A normal distribution has 95 % of its mass within this many standard errors of the mean.
QUANTILE = 1.959964

# Reports show this many values of a feature; they only count the others.
MOST_VALUES = 10


@dataclasses.dataclass(frozen=True)
class Slice:
    """The metrics of the users who have one value of a user feature.

    Attributes:
        feature: name of the user feature.
        value: the value that the users have in common.
        segment: `warm`, `cold` or `overall`.
        metrics: `{metric: value}` of these users.
    """

    feature: str
    value: str
    segment: str
    metrics: dict[str, float]


def error_of(name: str) -> str:
    """Returns the name of the metric that holds the standard error of the metric `name`."""
    return f"{name}_error"


def interval(metrics: Mapping[str, float], name: str) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a metric that is a mean over users.

    It is the mean plus and minus 1.96 standard errors, cut to [0, 1]. That is accurate for some
    dozens of users and more, and too narrow for a few.

    Args:
        metrics: `{metric: value}` of a segment or slice.
        name: the metric, such as `ndcg@20`.

    Returns:
        `(low, high)`, both nan for a single user.
    """
    value, error = metrics[name], metrics[error_of(name)]
    if math.isnan(error):
        return math.nan, math.nan
    return max(value - QUANTILE * error, 0.0), min(value + QUANTILE * error, 1.0)


def mean_with_interval(metrics: Mapping[str, float], name: str) -> str:
    """Returns a mean and its interval as text: `0.1234 (0.1100 to 0.1368)`."""
    low, high = interval(metrics, name)
    value = f"{metrics[name]:.4f}"
    return value if math.isnan(low) else f"{value} ({low:.4f} to {high:.4f})"


def largest_slices(slices: Sequence[Slice]) -> tuple[list[Slice], dict[str, int]]:
    """Returns the slices of the MOST_VALUES values of each feature that most users have.

    Args:
        slices: all slices, feature by feature, values with most users first.

    Returns:
        The slices, and `{feature: number of other values}`.
    """
    values: dict[str, dict[str, None]] = {}  # the inner dict is an ordered set
    for row in slices:
        values.setdefault(row.feature, {})[row.value] = None
    largest = {feature: [*names][:MOST_VALUES] for feature, names in values.items()}
    others = {
        feature: len(names) - MOST_VALUES
        for feature, names in values.items()
        if len(names) > MOST_VALUES
    }
    return [row for row in slices if row.value in largest[row.feature]], others

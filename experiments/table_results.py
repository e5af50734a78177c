"""Numbers of a table: means and deviations by row and column, and paired comparisons of rows."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmclrec_tf.schema import COLD, OVERALL, WARM
from experiments.run_folders import KEY, LIKELIHOOD, VALUES, UserValues
from experiments.significance import paired_t, sign_flip

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        label: the segment; `cold last` and `cold all` evaluate cold users on their last item and
            on all removed items.
        metric: its heading.
        segment: the key of `Report.rows`.
        key: the name of the metric in `Report.rows` and, for a metric per user, in `Report.users`.
    """

    label: str
    metric: str
    segment: str
    key: str

    def users(self, values: UserValues) -> NDArray[Any]:
        """Returns the metric of the segment's users from the values of `run_folders.read_users`."""
        if self.segment == OVERALL:
            return values[self.key]
        is_cold = values["is_cold"]
        return values[self.key][is_cold if self.segment == COLD else ~is_cold]


_SEGMENTS = (("warm", WARM, ""), ("cold last", COLD, ""), ("cold all", COLD, "_all"))
QUALITY = tuple(
    Column(label, metric, segment, f"{key}{suffix}@20")
    for label, segment, suffix in (*_SEGMENTS, ("overall", OVERALL, ""))
    for metric, key in (("Recall@20", "recall"), ("NDCG@20", "ndcg"))
)
# For datasets prepared with `data.target: last`, where both columns of cold users would be equal.
LAST_TARGETS = tuple(column for column in QUALITY if column.label != "cold all")
# For `data.split: time`, where users are evaluated on their first items.
FIRST_ITEMS, FIRST_TARGETS = (
    tuple(dataclasses.replace(c, label=c.label.replace("last", "first")) for c in columns)
    for columns in (QUALITY, LAST_TARGETS)
)
# For splits without cold users; with K = 10, as in published tables.
LEAVE_ONE_OUT = tuple(
    Column("all users", f"{metric}@{k}", WARM, f"{key}@{k}")
    for k in (10, 20)
    for metric, key in (("Recall", "recall"), ("NDCG", "ndcg"))
)
# Properties of the lists, which do not depend on relevant items.
LISTS = tuple(
    Column(segment, metric, segment, f"{metric}@20")
    for segment in (WARM, COLD, OVERALL)
    for metric in ("coverage", "jaccard")
)


def likelihoods(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Returns a column of log-likelihoods for each segment of the columns of a table."""
    labels: dict[str, str] = {}
    for column in columns:
        labels.setdefault(column.segment, column.label)
    return tuple(
        Column(label, "log-likelihood", segment, LIKELIHOOD) for segment, label in labels.items()
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row against another in one column.

    Attributes:
        row, other: names of the two rows.
        column: the `Column`.
        ratio: mean of `row` over the runs, divided by that of `other`. For log-likelihoods, the
            ratio of the geometric means of the predicted shares.
        p_t, p_flip: p values of the paired t test and of the sign-flip test, over the test users of
            all runs together.
    """

    row: str
    other: str
    column: Column
    ratio: float
    p_t: float
    p_flip: float


def deviation(values: ArrayLike) -> float:
    """Returns the standard deviation over the runs; NaN for one run."""
    values = np.asarray(values)
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def has_all_targets(users: Iterable[UserValues]) -> bool:
    """Whether evaluating cold users on all removed items differs from evaluating the last one.

    Args:
        users: results of `run_folders.read_users`.
    """
    return any(
        not np.array_equal(values[column.key], values[column.key.replace("_all", "")])
        for values in ({k: v[each["is_cold"]] for k, v in each.items()} for each in users)
        for column in QUALITY
        if column.label == "cold all"
    )


class Results:
    """The results of all runs of all rows of a table.

    Args:
        metrics: {row: [result of `run_folders.read` for each run]}.
        users: {row: [result of `run_folders.read_users` for each run]}.
        ours: names of the CMCLRec rows.
        columns: columns of the main table.
    """

    def __init__(
        self,
        metrics: Mapping[str, Sequence[dict[str, Any]]],
        users: Mapping[str, Sequence[UserValues]],
        ours: Collection[str],
        columns: tuple[Column, ...] = QUALITY,
    ) -> None:
        self.metrics, self.users, self.columns = metrics, users, columns
        self.names = list(metrics)
        self.ours = [name for name in self.names if name in ours]
        self.others = [name for name in self.names if name not in ours]
        self.likelihoods = likelihoods(columns)

    def values(self, name: str, column: Column) -> Floats:
        """Returns a row's value in each run, float [runs]; NaN if a segment has no users."""
        segments = [run["segments"] for run in self.metrics[name]]
        return np.array([s.get(column.segment, {}).get(column.key, np.nan) for s in segments])

    def mean(self, name: str, column: Column) -> float:
        """Returns the mean over the runs."""
        return float(self.values(name, column).mean())

    def deviation(self, name: str, column: Column) -> float:
        """Returns the standard deviation over the runs; NaN for one run."""
        return deviation(self.values(name, column))

    def has(self, name: str, column: Column) -> bool:
        """Returns whether all runs of a row have the users' values of a column."""
        return all(column.key in values for values in self.users[name])

    def best(self, column: Column, names: Iterable[str]) -> str:
        """Returns the name with the highest mean."""
        return max(names, key=lambda name: self.mean(name, column))

    def compare_with_best(self) -> list[Comparison]:
        """Compares each CMCLRec row with the best other row, in each column of user metrics."""
        others = {
            column: [name for name in self.others if self.has(name, column)]
            for column in self._user_columns()
        }
        return [
            self.compare(name, self.best(column, names), column)
            for name in self.ours
            for column, names in others.items()
            if names and self.has(name, column)
        ]

    def compare_pairs(self, pairs: Iterable[tuple[str, str]]) -> list[Comparison]:
        """Compares each pair of names that are both in the table, in each column of users."""
        return [
            self.compare(*pair, column)
            for pair in pairs
            if set(pair) <= set(self.names)
            for column in self._user_columns()
            if all(self.has(name, column) for name in pair)
        ]

    def compare(self, name: str, other: str, column: Column) -> Comparison:
        """Compares the row `name` with the row `other`."""
        a, b = (self._all_users(row, column) for row in (name, other))
        # A last item that no model knows has no likelihood under any.
        counted = ~(np.isnan(a) & np.isnan(b))
        a, b = a[counted], b[counted]
        (_, p_t), p_flip = paired_t(a, b), sign_flip(a, b)
        return Comparison(name, other, column, self._ratio(name, other, column), p_t, p_flip)

    def _ratio(self, name: str, other: str, column: Column) -> float:
        mean, other_mean = self.mean(name, column), self.mean(other, column)
        if column.key == LIKELIHOOD:
            return float(np.exp(mean - other_mean))
        return mean / other_mean if other_mean else float("inf")

    def _user_columns(self) -> list[Column]:
        columns = [column for column in self.columns if column.key in VALUES]
        return [*columns, *self.likelihoods]

    def _all_users(self, name: str, column: Column) -> NDArray[Any]:
        """Returns the metric of the test users of all runs, one after the other.

        If all runs have the same test users, the results have their keys, and each user counts
        once, with the mean of the runs.
        """
        values = np.concatenate([column.users(users) for users in self.users[name]])
        if not all(KEY in users for users in self.users[name]):
            return values
        key = dataclasses.replace(column, key=KEY)
        keys = np.concatenate([key.users(users) for users in self.users[name]])
        _, which = np.unique(keys, return_inverse=True)
        # A run in which no model knows the item says nothing of its likelihood.
        counted = ~np.isnan(values)
        sums = np.bincount(which[counted], values[counted], minlength=which.max(initial=-1) + 1)
        runs = np.bincount(which[counted], minlength=len(sums))
        return np.where(runs, sums / np.maximum(runs, 1), np.nan)

"""The numbers of all runs: by row and column, and rows against each other on the same users."""

import dataclasses

import numpy as np

from cmclrec_tf.schema import COLD, OVERALL, WARM
from experiments.significance import paired_t, sign_flip
from experiments.store import VALUES


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        label: of the segment; `cold last` and `cold all` judge cold users on the last item and on
            everything that was removed.
        metric: its heading.
        segment, key: where `Report.rows` and, for a metric of users, `Report.users` hold it.
    """

    label: str
    metric: str
    segment: str
    key: str

    def users(self, values):
        """The metric of the segment's users, out of what `store.read_users` gives."""
        chosen = {OVERALL: slice(None), WARM: ~values["is_cold"], COLD: values["is_cold"]}
        return values[self.key][chosen[self.segment]]


_SEGMENTS = (("warm", WARM, ""), ("cold last", COLD, ""), ("cold all", COLD, "_all"))
QUALITY = tuple(
    Column(label, metric, segment, f"{key}{suffix}@20")
    for label, segment, suffix in (*_SEGMENTS, ("overall", OVERALL, ""))
    for metric, key in (("Recall@20", "recall"), ("NDCG@20", "ndcg"))
)
# Without cold users, at the cut of published tables too.
LEAVE_ONE_OUT = tuple(
    Column("all users", f"{metric}@{k}", WARM, f"{key}@{k}")
    for k in (10, 20)
    for metric, key in (("Recall", "recall"), ("NDCG", "ndcg"))
)
# Lists do not depend on what is judged relevant.
LISTS = tuple(
    Column(segment, metric, segment, f"{metric}@20")
    for segment in (WARM, COLD, OVERALL)
    for metric in ("coverage", "jaccard")
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row of CMCLRec against the strongest row that is not.

    Attributes:
        row, best: names of the two.
        column: of the table; `best` is the strongest in it.
        ratio: of the means over the runs.
        p_t, p_flip: of the paired tests over the users of all runs together.
    """

    row: str
    best: str
    column: Column
    ratio: float
    p_t: float
    p_flip: float


def deviation(values):
    """Standard deviation over the runs; NaN for one run."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


class Results:
    """What all runs of all rows left.

    Args:
        metrics: `{row: [what `store.read` gives, a run each]}`.
        users: `{row: [what `store.read_users` gives, a run each]}`.
        ours: names of CMCLRec's rows.
        columns: of the table of quality.
    """

    def __init__(self, metrics, users, ours, columns=QUALITY):
        self.metrics, self.users, self.columns = metrics, users, columns
        self.names = list(metrics)
        self.ours = [name for name in self.names if name in ours]
        self.others = [name for name in self.names if name not in ours]

    def values(self, name, column):
        """A row's value in each run, float [runs]; NaN where a segment has nobody."""
        segments = [run["segments"] for run in self.metrics[name]]
        return np.array([s.get(column.segment, {}).get(column.key, np.nan) for s in segments])

    def mean(self, name, column):
        return float(self.values(name, column).mean())

    def deviation(self, name, column):
        """Standard deviation over the runs; NaN for one run."""
        return deviation(self.values(name, column))

    def best(self, column, names):
        """The name with the highest mean."""
        return max(names, key=lambda name: self.mean(name, column))

    def comparisons(self):
        """A `Comparison` for each of CMCLRec's rows and each column that users have."""
        if not self.others:
            return []
        return [self._compare(name, column) for name in self.ours for column in self._of_users()]

    def paired(self, pairs):
        """A `Comparison` for each pair of names that the table has, and each column of users."""
        there = [pair for pair in pairs if set(pair) <= set(self.names)]
        return [self.against(*pair, column) for pair in there for column in self._of_users()]

    def against(self, name, other, column):
        """The `Comparison` of two rows that are named."""
        a, b = (self._pooled(row, column) for row in (name, other))
        (_, p_t), p_flip = paired_t(a, b), sign_flip(a, b)
        below = self.mean(other, column)
        ratio = self.mean(name, column) / below if below else float("inf")
        return Comparison(name, other, column, ratio, p_t, p_flip)

    def _of_users(self):
        return [column for column in self.columns if column.key in VALUES]

    def _compare(self, name, column):
        return self.against(name, self.best(column, self.others), column)

    def _pooled(self, name, column):
        return np.concatenate([column.users(values) for values in self.users[name]])

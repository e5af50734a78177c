"""Compares a model with popularity, the floor of every recommender, and says it in words.

A floor recommends the most popular items of the train split. The Evaluator computes its metrics,
and the difference to the model's, for the same users in the same pass (`floor_metrics`).
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from cmclrec_tf.evaluation.report import table
from cmclrec_tf.schema import COLD, OVERALL, WARM
from pipeline.evaluation.slices import QUANTILE, REPEATS, SEGMENTS, USERS, error_of

# {name of the floor: the events that it counts}, named as the rows of the experiments.
FLOORS = {"popularity": "all", "popularity-last": "last"}
TITLES = {name: f"popularity, {events} events" for name, events in FLOORS.items()}

# The value of `evaluate.floors` with which a model below a floor is not blessed.
REFUSE = "refuse"

# {segment: {metric: value}}
Rows = Mapping[str, Mapping[str, float]]

_OF, _OVER = "of", "over"
_WHO = {WARM: "warm users are", COLD: "cold users are", OVERALL: "all users together are"}


def of_floor(floor: str, metric: str) -> str:
    """Returns the name of the metric that a floor reaches: `ndcg@20 of popularity`."""
    return f"{metric} {_OF} {floor}"


def over_floor(floor: str, metric: str) -> str:
    """Returns the name of the model's metric minus the floor's: `ndcg@20 over popularity`."""
    return f"{metric} {_OVER} {floor}"


def high_of(metric: str) -> str:
    """Returns the name of the metric that holds the upper end of a difference's interval."""
    return f"{metric}_high"


def is_of_floor(name: str) -> bool:
    """Whether a metric is one of `of_floor` or `over_floor`."""
    return " " in name


def difference_interval(mean: float, error: float) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a mean difference of a metric in [0, 1].

    Args:
        mean: mean over the users of the model's metric minus the floor's.
        error: standard error of the mean; nan for a single user, who leaves everything open.
    """
    if math.isnan(error):
        return -1.0, 1.0
    return max(mean - QUANTILE * error, -1.0), min(mean + QUANTILE * error, 1.0)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A model next to a floor, in one segment.

    Attributes:
        floor: name of the floor.
        segment: `warm`, `cold` or `overall`.
        metric: the metric, such as `ndcg@20`.
        model_value, floor_value: the metric of the two.
        difference: mean difference of the two over the users.
        error: standard error of the mean difference; nan for a single user.
    """

    floor: str
    segment: str
    metric: str
    model_value: float
    floor_value: float
    difference: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return difference_interval(self.difference, self.error)

    @property
    def bound(self) -> str:
        """Name of the metric that the bound of `evaluate.floors: refuse` applies to."""
        return over_floor(self.floor, high_of(self.metric))

    @property
    def is_below(self) -> bool:
        """Whether the model is below the floor by more than chance explains."""
        return self.interval[1] < 0

    def sentence(self) -> str:
        """Says in one line that the segment is served below the floor."""
        low, high = self.interval
        line = (
            f"{_WHO[self.segment]} served below {TITLES[self.floor]}: {self.metric} is "
            f"{self.model_value:.4f} against {self.floor_value:.4f}"
        )
        if math.isnan(self.error):
            return f"{line}; a single user gives no interval, so this may be chance"
        interval = f"the 95 % interval of the difference is {low:.4f} to {high:.4f}"
        return f"{line}; {interval}" + ("" if self.is_below else ", so this may be chance")


def model_rows(metrics: Rows) -> dict[str, dict[str, float]]:
    """Returns the metrics of the model alone, from all metrics by segment."""
    return {
        segment: {name: value for name, value in values.items() if not is_of_floor(name)}
        for segment, values in metrics.items()
    }


def floor_rows(metrics: Rows) -> dict[str, dict[str, dict[str, float]]]:
    """Returns `{floor: {segment: {metric: value}}}` from all metrics by segment."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for segment, values in metrics.items():
        for name, value in values.items():
            metric, _, floor = name.partition(f" {_OF} ")
            if floor:
                rows.setdefault(floor, {}).setdefault(segment, {})[metric] = value
    return rows


def comparisons(metrics: Rows) -> list[Comparison]:
    """Returns the model next to every floor in every segment, from all metrics by segment."""
    compared = []
    for segment in (name for name in SEGMENTS if name in metrics):
        values = metrics[segment]
        for name in values:
            metric, _, floor = name.partition(f" {_OVER} ")
            error = values.get(over_floor(floor, error_of(metric)))
            if error is not None:  # else it is no mean but the error or the end of an interval
                reached, floor_reached = values[metric], values[of_floor(floor, metric)]
                compared.append(
                    Comparison(floor, segment, metric, reached, floor_reached, values[name], error)
                )
    return compared


def warnings(compared: Sequence[Comparison], refuses: bool = False) -> Iterator[str]:
    """Yields a sentence for each segment and floor that the model's metric is below.

    Args:
        compared: the result of `comparisons`.
        refuses: whether the gate refuses what is below by more than chance, and so reports it.
    """
    for comparison in compared:
        if comparison.difference < 0 and not (refuses and comparison.is_below):
            yield comparison.sentence()


def segment_table(rows: Rows, floors: Mapping[str, Rows], k: int) -> str:
    """Returns a table of the model and the floors by segment, as text.

    Args:
        rows: metrics of the model.
        floors: metrics of the floors, see `floor_rows`.
        k: K of the metrics that are shown.
    """
    lines = {"CMCLRec": rows, **{TITLES[name]: floors[name] for name in FLOORS if name in floors}}
    users = ", ".join(f"{rows[name]['users']:.0f} {name}" for name in SEGMENTS if name in rows)
    metrics = (f"recall@{k}", f"ndcg@{k}", f"coverage@{k}")
    return f"Test users: {users}\n{table(lines, metrics)}"


def repeats(rows: Rows, hides_history: bool) -> str:
    """Returns a line on the warm users who have their target in their history; empty if none do.

    Args:
        rows: metrics of the model.
        hides_history: whether the lists leave out the history.
    """
    row = rows.get(WARM, {})
    number = row.get(REPEATS, 0)
    if not number:
        return ""
    effect = "so they count as misses" if hides_history else "which the lists may hold"
    return (
        f"{number:.0f} of {row[USERS]:.0f} warm users have their target in their history, {effect} "
        f"(evaluate.seen_items={'mask' if hides_history else 'keep'})"
    )

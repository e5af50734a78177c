"""Tables of `short_histories`: each rule by the number of known events, and paired comparisons."""

import csv
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from experiments.pages import Page, made_by, markdown_table, with_deviation
from experiments.run_folders import Folder, Versions
from experiments.significance import paired_t, sign_flip
from experiments.table_results import deviation

Ranks: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
RunRanks: TypeAlias = dict[str, NDArray[Any]]
"""Ranks [users] of one run by rule and number of events, such as 'history/3'; 'users/3' holds the
keys of these users."""

K = 20
# Numbers of newest events that a history is cut to; FULL keeps all.
FULL = 0
EVENTS = (1, 2, 3, 5, 10, 20, FULL)
# What the CMCLRec row reads; other rows have one rule, by their name.
HISTORY, FEATURES, TOGETHER = "history", "features", "together"
RULES = (HISTORY, FEATURES, TOGETHER)
# Stands for a rule in the names of the users' keys.
USERS = "users"

_LEGEND = (
    "Warm test users with n events or more, as if only their newest n events were known, evaluated "
    "on their last item: Recall@{k} / NDCG@{k}. `{row}` reads the `history` alone, the user "
    "`features` alone, or both `together`. {others} are rows of their own, trained on the same "
    "split."
)
_COMPARISON = (
    "Ratio of the means of NDCG@{k}, and the larger p value of Student's paired t test and of "
    "random sign flips, over the test users of all runs together."
)


def ndcg(ranks: Ranks) -> Floats:
    """Returns NDCG@K of one relevant item at each rank; rank 0 means that it is not listed."""
    return np.where(ranks > 0, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


def recall(ranks: Ranks) -> Floats:
    """Returns Recall@K of one relevant item at each rank; rank 0 means that it is not listed."""
    return (ranks > 0).astype(float)


class RuleResults:
    """The ranks of all runs.

    Args:
        runs: for each run, the ranks of `short_histories.ranks_of` of all rows.

    Attributes:
        events: the numbers of events that at least two users of every run have.
    """

    def __init__(self, runs: Sequence[RunRanks]) -> None:
        self.runs = runs
        self.events = [n for n in EVENTS if min(len(run[f"{HISTORY}/{n}"]) for run in runs) > 1]

    def values(self, rule: str, n: int, metric: Callable[[Ranks], Floats] = ndcg) -> list[Floats]:
        """Returns the metric of a rule, for each run an array of its users."""
        return [metric(run[f"{rule}/{n}"]) for run in self.runs]

    def against(self, rule: str, other: str, n: int) -> tuple[float, float]:
        """Returns the ratio of the means of two rules, and p, over the users of all runs.

        If all runs have the same test users, each counts once, with the mean of the runs.
        """
        a, b = (self._all_users(name, n) for name in (rule, other))
        return a.mean() / max(b.mean(), 1e-12), max(paired_t(a, b)[1], sign_flip(a, b))

    def _all_users(self, rule: str, n: int) -> Floats:
        order = [np.argsort(run[f"{USERS}/{n}"]) for run in self.runs]
        keys = [run[f"{USERS}/{n}"][at] for run, at in zip(self.runs, order, strict=True)]
        values = self.values(rule, n)
        if all(np.array_equal(keys[0], other) for other in keys):
            return np.mean([v[at] for v, at in zip(values, order, strict=True)], axis=0)
        return np.concatenate(values)

    def cell(self, rule: str, n: int) -> str:
        """Formats Recall and NDCG: means, and the deviation of NDCG over the runs."""
        recalls = [values.mean() for values in self.values(rule, n, recall)]
        ndcgs = [values.mean() for values in self.values(rule, n)]
        text = with_deviation(float(np.mean(ndcgs)), deviation(ndcgs), _format)
        return f"{_format(float(np.mean(recalls)))} / {text}"


def write(
    out: Folder,
    dataset: str,
    row: str,
    others: Sequence[str],
    runs: Sequence[RunRanks],
    versions: Sequence[Versions],
    command: str | None = None,
) -> Page:
    """Writes short-histories-<row>.md and .csv.

    Args:
        out: folder of the experiment.
        dataset: name of the dataset.
        row: name of the CMCLRec row.
        others: names of the other rows, the backbone alone first.
        runs: the ranks of each run.
        versions: library versions of each result.
        command: the command line, printed below the tables.
    """
    results = RuleResults(runs)
    compared = (HISTORY, FEATURES, *others)
    names = ", ".join(f"`{name}`" for name in others)
    parts = [
        f"# {dataset}: short histories with `{row}`, {len(runs)} runs",
        _LEGEND.format(k=K, row=row, others=names),
        _values(results, (*RULES, *others)),
        f"## `{TOGETHER}` against the others",
        _COMPARISON.format(k=K),
        _comparisons(results, compared),
        *made_by(command, len(runs), versions),
    ]
    text = "\n\n".join(parts)
    files = tuple(pathlib.Path(out) / f"short-histories-{row}.{end}" for end in ("md", "csv"))
    files[0].write_text(text + "\n")
    with open(files[1], "w", newline="") as file:
        csv.writer(file).writerows(_lines(results, (*RULES, *others)))
    return Page(text, files)


def _values(results: RuleResults, rules: Sequence[str]) -> str:
    lines = []
    for n in results.events:
        users = np.mean([len(values) for values in results.values(HISTORY, n)])
        lines.append([_name(n), f"{users:.0f}", *(results.cell(rule, n) for rule in rules)])
    return markdown_table(["n", "users", *rules], lines)


def _comparisons(results: RuleResults, rules: Sequence[str]) -> str:
    lines = []
    for n in results.events:
        pairs = [results.against(TOGETHER, rule, n) for rule in rules]
        lines.append([_name(n), *(f"{ratio:.3f} (p = {p:.2g})" for ratio, p in pairs)])
    return markdown_table(["n", *rules], lines)


def _lines(results: RuleResults, rules: Sequence[str]) -> Iterator[list[object]]:
    """Yields a CSV line for every number of events, rule and run."""
    yield ["n", "rule", "run", "users", f"recall@{K}", f"ndcg@{K}"]
    for n in results.events:
        for rule in rules:
            pairs = zip(results.values(rule, n, recall), results.values(rule, n), strict=True)
            for run, (r, d) in enumerate(pairs):
                yield [_name(n), rule, run, len(r), repr(r.mean()), repr(d.mean())]


def _name(n: int) -> str:
    return "all" if n == FULL else str(n)


def _format(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")

"""Tables of `short_histories`: selects rules on validation users, reports them on test users."""

import csv
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.schema import TEST, VAL
from experiments.run_folders import Folder, Versions
from experiments.significance import paired_t, sign_flip
from experiments.table_results import deviation
from experiments.write_tables import Page, made_by, markdown_table, with_deviation

if TYPE_CHECKING:
    from experiments.table_rows import Row

Ranks: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
RunRanks: TypeAlias = dict[str, Ranks]
"""Ranks [rules, users] of one run by split and number of events, such as 'test/3'."""

K = 20
# Numbers of newest events that a history is cut to; FULL keeps all.
FULL = 0
EVENTS = (1, 2, 3, 5, 10, 20, FULL)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COUNTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WARM, COLD, JOINED = "warm", "cold", "joined"
# Histories of these lengths decide which count is best.
SHORT = (1, 2, 3, 5)

_LEGEND = (
    "Warm test users with n events or more, as if only their newest n events were known, evaluated "
    "on their last item. `warm` and `cold` are the two paths alone. `joined` puts the simulated "
    "history in front of the real one, in one sequence. `best share` blends both states, with the "
    "share of the cold state that is best for each n (warm is 0, cold 1). `events c` counts the "
    "simulated history as c events, so its share is c / (n + c); one c is used for all n, the best "
    "one for {short} events. All choices are made on validation users by NDCG@{k}."
)
_COMPARISON = (
    "Ratio of the means of NDCG@{k}, and the larger p value of Student's paired t test and of "
    "random sign flips, over the test users of all runs together."
)


def share_rule(share: float) -> str:
    """Returns the name of the rule that blends with a fixed share of the cold state."""
    return f"share {share:g}"


def count_rule(count: float) -> str:
    """Returns the name of the rule that counts the simulated history as so many events."""
    return f"events {count:g}"


RULES = (WARM, COLD, JOINED, *map(share_rule, SHARES), *map(count_rule, COUNTS))


def ndcg(ranks: Ranks) -> Floats:
    """Returns NDCG@K of one relevant item at each rank; rank 0 means that it is not listed."""
    listed = (ranks > 0) & (ranks <= K)
    return np.where(listed, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


def recall(ranks: Ranks) -> Floats:
    """Returns Recall@K of one relevant item at each rank; rank 0 means that it is not listed."""
    return ((ranks > 0) & (ranks <= K)).astype(float)


class RuleResults:
    """The ranks of all runs, and the rules that are best on validation users.

    Args:
        runs: for each run, the ranks of `short_histories.ranks_of` by split.

    Attributes:
        events: the numbers of events that some users have.
        count: the best count for short histories.
        shares: {number of events: the rule with the best share}.
    """

    def __init__(self, runs: Sequence[RunRanks]) -> None:
        self.runs = runs
        self.events = [n for n in EVENTS if all(self._users(split, n) for split in (VAL, TEST))]
        self.count = max(COUNTS, key=self._mean_of_short)
        self.shares = {n: self._best_share(n) for n in self.events}

    def _users(self, split: str, n: int) -> int:
        return min(run[f"{split}/{n}"].shape[1] for run in self.runs)

    def values(
        self, rule: str, n: int, split: str = TEST, metric: Callable[[Ranks], Floats] = ndcg
    ) -> list[Floats]:
        """Returns the metric of a rule, for each run an array of its users."""
        return [metric(run[f"{split}/{n}"][RULES.index(rule)]) for run in self.runs]

    def mean(self, rule: str, n: int, split: str) -> float:
        """Returns the mean NDCG of a rule over the users of all runs."""
        return float(np.concatenate(self.values(rule, n, split)).mean())

    def _mean_of_short(self, count: float) -> float:
        short = [n for n in SHORT if n in self.events]
        return float(np.mean([self.mean(count_rule(count), n, VAL) for n in short]))

    def _best_share(self, n: int) -> str:
        rules = (WARM, COLD, *map(share_rule, SHARES))
        return max(rules, key=lambda rule: self.mean(rule, n, VAL))

    def against_warm(self, rule: str, n: int) -> tuple[float, float]:
        """Returns the ratio of a rule's mean to that of `warm`, and p, over all test users."""
        a, b = (np.concatenate(self.values(name, n)) for name in (rule, WARM))
        return a.mean() / max(b.mean(), 1e-12), max(paired_t(a, b)[1], sign_flip(a, b))

    def cell(self, rule: str, n: int) -> str:
        """Formats Recall and NDCG of test users: means, and the deviation of NDCG over the runs."""
        recalls = [values.mean() for values in self.values(rule, n, metric=recall)]
        ndcgs = [values.mean() for values in self.values(rule, n)]
        text = with_deviation(float(np.mean(ndcgs)), deviation(ndcgs), _format)
        return f"{_format(float(np.mean(recalls)))} / {text}"


def write(
    out: Folder,
    dataset: str,
    row: "Row",
    runs: Sequence[RunRanks],
    versions: Sequence[Versions],
    command: str | None = None,
) -> Page:
    """Writes short-histories-<row>.md and .csv.

    Args:
        out: folder of the experiment.
        dataset: name of the dataset.
        row: the `Row` that was trained.
        runs: the ranks of each run.
        versions: library versions of each run.
        command: the command line, printed below the tables.
    """
    results = RuleResults(runs)
    parts = [
        f"# {dataset}: short histories with `{row.name}`, {len(runs)} runs",
        _LEGEND.format(short=", ".join(map(str, SHORT)), k=K),
        _values(results),
        "## Against warm",
        _COMPARISON.format(k=K),
        _comparisons(results),
        *made_by(command, len(runs), versions),
    ]
    text = "\n\n".join(parts)
    files = tuple(pathlib.Path(out) / f"short-histories-{row.name}.{end}" for end in ("md", "csv"))
    files[0].write_text(text + "\n")
    with open(files[1], "w", newline="") as file:
        csv.writer(file).writerows(_lines(results))
    return Page(text, files)


def _values(results: RuleResults) -> str:
    count = count_rule(results.count)
    heads = ["n", "users", WARM, COLD, JOINED, "best share", "", count]
    lines = []
    for n in results.events:
        users = np.mean([len(values) for values in results.values(WARM, n)])
        best = results.shares[n]
        cells = [results.cell(rule, n) for rule in (WARM, COLD, JOINED, best)]
        share = best.removeprefix("share ")
        lines.append([_name(n), f"{users:.0f}", *cells, share, results.cell(count, n)])
    return markdown_table(heads, lines)


def _comparisons(results: RuleResults) -> str:
    count = count_rule(results.count)
    heads = ["n", COLD, JOINED, "best share", count]
    lines = []
    for n in results.events:
        rules = (COLD, JOINED, results.shares[n], count)
        pairs = [results.against_warm(rule, n) for rule in rules]
        lines.append([_name(n), *(f"{ratio:.3f} (p = {p:.2g})" for ratio, p in pairs)])
    return markdown_table(heads, lines)


def _lines(results: RuleResults) -> Iterator[list[object]]:
    """Yields a CSV line for every rule, run and split."""
    yield ["split", "n", "rule", "run", "users", f"recall@{K}", f"ndcg@{K}"]
    for split in (VAL, TEST):
        for n in results.events:
            for rule in RULES:
                pairs = zip(
                    results.values(rule, n, split, recall),
                    results.values(rule, n, split),
                    strict=True,
                )
                for run, (r, d) in enumerate(pairs):
                    yield [split, _name(n), rule, run, len(r), repr(r.mean()), repr(d.mean())]


def _name(n: int) -> str:
    return "all" if n == FULL else str(n)


def _format(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")

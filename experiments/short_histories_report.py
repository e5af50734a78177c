"""The tables of `short_histories`: rules chosen on validation users, told on test users."""

import csv
import pathlib

import numpy as np

from cmclrec_tf.schema import TEST, VAL
from experiments.results import deviation
from experiments.significance import paired_t, sign_flip
from experiments.write_tables import Written, made_by, markdown_table, with_deviation

K = 20
# Newest events that are kept of a history; FULL keeps all.
FULL = 0
EVENTS = (1, 2, 3, 5, 10, 20, FULL)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COUNTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WARM, COLD, JOINED = "warm", "cold", "joined"
# What counts as a short history when one count is chosen for all.
SHORT = (1, 2, 3, 5)

_SAID = (
    "Warm test users as if their newest n events were all that is known, judged on their last "
    "item; users with n events at least. `joined`: the simulated history before the real one, in "
    "one sequence. Share: the cold state's in a blend of both, for each n the best; warm is 0, "
    "cold 1. Events: as many as the simulated history counts for, c, so the share is c / (n + c); "
    "one c for all n, the best for {short} events. All is chosen on validation users by NDCG@{k}."
)
_TOLD = (
    "Ratio of the means of NDCG@{k}, and p: the larger of Student's paired t test and of random "
    "sign flips, over the test users of all runs together."
)


def share_rule(share) -> str:
    """Name of the rule: that share of the cold state, whatever the number of events."""
    return f"share {share:g}"


def count_rule(count) -> str:
    """Name of the rule: the simulated history counts as that many events."""
    return f"events {count:g}"


RULES = (WARM, COLD, JOINED, *map(share_rule, SHARES), *map(count_rule, COUNTS))


def ndcg(ranks):
    """NDCG@K of one relevant item at these ranks, 0 being none."""
    found = (ranks > 0) & (ranks <= K)
    return np.where(found, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


def recall(ranks):
    """Recall@K, as `ndcg`."""
    return ((ranks > 0) & (ranks <= K)).astype(float)


class Found:
    """The ranks of all runs.

    Args:
        runs: of each what `short_histories.ranks_of` gives, {'test/3': int [rules, users], ...}.
    """

    def __init__(self, runs):
        self.runs = runs
        self.events = [n for n in EVENTS if all(self._users(split, n) for split in (VAL, TEST))]
        self.count = max(COUNTS, key=self._short)
        self.shares = {n: self._best(n) for n in self.events}

    def _users(self, split, n):
        return min(run[f"{split}/{n}"].shape[1] for run in self.runs)

    def values(self, rule, n, split=TEST, metric=ndcg):
        """The metric of a rule, an array of its users for each run."""
        return [metric(run[f"{split}/{n}"][RULES.index(rule)]) for run in self.runs]

    def mean(self, rule, n, split):
        return float(np.concatenate(self.values(rule, n, split)).mean())

    def _short(self, count):
        short = [n for n in SHORT if n in self.events]
        return np.mean([self.mean(count_rule(count), n, VAL) for n in short])

    def _best(self, n):
        return max((WARM, COLD, *map(share_rule, SHARES)), key=lambda r: self.mean(r, n, VAL))

    def against_warm(self, rule, n):
        """Ratio of the means and p over all test users."""
        a, b = (np.concatenate(self.values(name, n)) for name in (rule, WARM))
        return a.mean() / max(b.mean(), 1e-12), max(paired_t(a, b)[1], sign_flip(a, b))

    def cell(self, rule, n) -> str:
        """Recall and NDCG of test users: mean and, of NDCG, deviation over the runs."""
        means = {m: [v.mean() for v in self.values(rule, n, metric=m)] for m in (recall, ndcg)}
        text = with_deviation(np.mean(means[ndcg]), deviation(means[ndcg]), _short_number)
        return f"{_short_number(np.mean(means[recall]))} / {text}"


def write(out, dataset, row, runs, versions, command=None):
    """Writes short-histories-<row>.md and .csv.

    Args:
        out: folder of the experiment.
        dataset: its name.
        row: the `Row` that was trained.
        runs: the ranks of each run, see `Found`.
        versions: of the libraries of each run.
        command: that made it, for the reader.

    Returns:
        `table.Written`.
    """
    found = Found(runs)
    parts = [
        f"# {dataset}: short histories with `{row.name}`, {len(runs)} runs",
        _SAID.format(short=", ".join(map(str, SHORT)), k=K),
        _values(found),
        "## Against warm",
        _TOLD.format(k=K),
        _compared(found),
        *made_by(command, len(runs), versions),
    ]
    text = "\n\n".join(parts)
    files = tuple(pathlib.Path(out) / f"short-histories-{row.name}.{end}" for end in ("md", "csv"))
    files[0].write_text(text + "\n")
    with open(files[1], "w", newline="") as file:
        csv.writer(file).writerows(_lines(found))
    return Written(text, files)


def _values(found):
    counted = count_rule(found.count)
    heads = ["n", "users", WARM, COLD, JOINED, "best share", "", counted]
    lines = []
    for n in found.events:
        users = np.mean([len(values) for values in found.values(WARM, n)])
        best = found.shares[n]
        cells = [found.cell(rule, n) for rule in (WARM, COLD, JOINED, best)]
        shown = best.removeprefix("share ")
        lines.append([_name(n), f"{users:.0f}", *cells, shown, found.cell(counted, n)])
    return markdown_table(heads, lines)


def _compared(found):
    counted = count_rule(found.count)
    heads = ["n", COLD, JOINED, "best share", counted]
    lines = []
    for n in found.events:
        rules = (COLD, JOINED, found.shares[n], counted)
        pairs = [found.against_warm(rule, n) for rule in rules]
        lines.append([_name(n), *(f"{ratio:.3f} (p = {p:.2g})" for ratio, p in pairs)])
    return markdown_table(heads, lines)


def _lines(found):
    """Every rule on every run, on both splits."""
    yield ["split", "n", "rule", "run", "users", f"recall@{K}", f"ndcg@{K}"]
    for split in (VAL, TEST):
        for n in found.events:
            for rule in RULES:
                pairs = zip(
                    found.values(rule, n, split, recall),
                    found.values(rule, n, split),
                    strict=True,
                )
                for run, (r, d) in enumerate(pairs):
                    yield [split, _name(n), rule, run, len(r), repr(r.mean()), repr(d.mean())]


def _name(n):
    return "all" if n == FULL else str(n)


def _short_number(value):
    return f"{value:.4f}".removeprefix("0")

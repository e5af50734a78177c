"""Tables and plot of `curve`: each variant by the share of the train users."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from cmclrec_tf.schema import COLD, WARM
from experiments.pages import Page, made_by, markdown_table, with_deviation
from experiments.run_folders import LIKELIHOOD, Folder
from experiments.table_results import Column, Results
from experiments.write_tables import read_results
from pipeline.evaluation.plots import figure

if TYPE_CHECKING:
    from experiments.table_kinds import Table
    from experiments.table_rows import Row

FULL = "full"

_LEGEND = (
    "CMCLRec with the whole mapper (`{full}`) and without parts of it, trained on a share of the "
    "train users. A keyed hash chooses them, so that a smaller share is part of a larger one. "
    "{stage1} Vocabularies, validation and test users are those of all rows. The log-likelihood of "
    "the last item is in nats."
)
_STAGE1 = {
    "same": "Stage 1 and stage 2 read the same users.",
    "all": "The share is that of stage 2; stage 1 reads all train users.",
}
_COMPARISON = (
    "Ratio of the means of NDCG@20, and of the geometric means of the shares predicted for the "
    "last item, with the larger p value of Student's paired t test and of random sign flips, over "
    "the test users of all runs together. These are {count} comparisons: by chance alone, about "
    "{by_chance:.1f} of them have p < .05."
)


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of the curve.

    Attributes:
        share: share of the train users.
        variant: FULL, or one of `config.ABLATIONS`.
        row: name of the row that is trained.
    """

    share: float
    variant: str
    row: str


def write(
    kind: "Table",
    out: Folder,
    dataset: str,
    rows: "Sequence[Row]",
    runs: int,
    command: str | None = None,
    *,
    points: Sequence[Point],
    stage1: str,
) -> Page:
    """Writes the curve as Markdown, CSV and a plot.

    Args:
        kind, out, dataset, rows, runs, command: see `write_tables.write`.
        points: the points, in the order of the table.
        stage1: what stage 1 reads, `same` or `all`.
    """
    results = read_results(out, rows, runs)
    columns = _columns(results)
    versions = [run["versions"] for runs_of_row in results.metrics.values() for run in runs_of_row]
    comparisons = list(_comparisons(results, points, columns))
    count = len(comparisons) * len(columns)
    parts = [
        f"# {dataset}: curve over the train users, mean and standard deviation of {runs} runs",
        _LEGEND.format(full=FULL, stage1=_STAGE1[stage1]),
        markdown_table(
            ["train users", "variant", *map(_head, columns)],
            [
                [_percent(point.share), point.variant, *(_cell(results, point, c) for c in columns)]
                for point in points
            ],
        ),
        f"## `{FULL}` against each variant",
        _COMPARISON.format(count=count, by_chance=0.05 * count),
        markdown_table(["train users", "against", *map(_head, columns)], comparisons),
        *made_by(command, runs, versions),
    ]
    text = "\n\n".join(parts)
    files = tuple(pathlib.Path(out) / f"{kind.name}.{ending}" for ending in ("md", "csv", "png"))
    markdown, table, plot = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(results, points, columns))
    _plot(plot, results, points, columns, dataset)
    return Page(text, files)


def _columns(results: Results) -> list[Column]:
    ndcg = [column for column in results.columns if column.key == "ndcg@20"]
    return [c for c in (*ndcg, *results.likelihoods) if c.segment in (WARM, COLD)]


def _head(column: Column) -> str:
    return f"{column.label} {column.metric}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _cell(results: Results, point: Point, column: Column) -> str:
    show: Callable[[float], str] = (
        "{:.3f}".format if column.key == LIKELIHOOD else lambda x: f"{x:.4f}".removeprefix("0")
    )
    mean, deviation = results.mean(point.row, column), results.deviation(point.row, column)
    return with_deviation(mean, deviation, show)


def _comparisons(
    results: Results, points: Sequence[Point], columns: Sequence[Column]
) -> Iterator[list[str]]:
    full = {point.share: point.row for point in points if point.variant == FULL}
    for point in points:
        if point.variant != FULL:
            pairs = [results.compare(full[point.share], point.row, column) for column in columns]
            cells = [f"{pair.ratio:.3f} (p = {max(pair.p_t, pair.p_flip):.2g})" for pair in pairs]
            yield [_percent(point.share), point.variant, *cells]


def _lines(
    results: Results, points: Sequence[Point], columns: Sequence[Column]
) -> Iterator[list[object]]:
    """Yields a CSV line for each point, column and run."""
    yield ["share", "variant", "segment", "metric", "run", "value"]
    for point in points:
        for column in columns:
            head = [point.share, point.variant, column.label, column.metric]
            for run, value in enumerate(results.values(point.row, column)):
                yield [*head, run, repr(float(value))]


def _plot(
    path: Folder,
    results: Results,
    points: Sequence[Point],
    columns: Sequence[Column],
    dataset: str,
) -> None:
    """Plots every column over the share, one line per variant, with standard deviations."""
    plot = figure(3.4 * len(columns), 3.6)
    panels = plot.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        for variant in dict.fromkeys(point.variant for point in points):
            line = [point for point in points if point.variant == variant]
            axes.errorbar(
                [100 * point.share for point in line],
                [results.mean(point.row, column) for point in line],
                yerr=[results.deviation(point.row, column) for point in line],
                label=variant,
                capsize=2,
            )
        axes.set_xscale("log")
        axes.set_xlabel("train users, %")
        axes.set_title(_head(column))
    panels[0].legend()
    plot.suptitle(dataset)
    plot.savefig(path, dpi=120)

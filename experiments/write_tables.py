"""Writes the tables as Markdown for people, as CSV for programs, and as a plot."""

import csv
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cmclrec_tf.config import BY_TIME
from experiments import bar_plot, run_folders
from experiments.pages import Page, made_by, markdown_table, with_deviation
from experiments.paper_numbers import COLUMNS, NOTE, Published
from experiments.table_results import (
    FIRST_ITEMS,
    FIRST_TARGETS,
    LAST_TARGETS,
    LEAVE_ONE_OUT,
    LISTS,
    QUALITY,
    Column,
    Comparison,
    Results,
    has_all_targets,
)

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from experiments.table_kinds import Table
    from experiments.table_rows import Row


def write(
    kind: "Table",
    out: run_folders.Folder,
    dataset: str,
    rows: "Sequence[Row]",
    runs: int,
    command: str | None = None,
) -> Page:
    """Makes the tables from the results of all runs, and writes Markdown, CSV and a plot.

    Args:
        kind: `table_kinds.Table`; its name is the name of the files.
        out: folder of the experiment.
        dataset: name of the dataset.
        rows: the `Row`s.
        runs: number of runs.
        command: the command of the experiment, printed below the tables.
    """
    results = read_results(out, rows, runs)
    text = _text(kind, results, dataset, runs, command)
    files = tuple(pathlib.Path(out) / f"{kind.name}.{ending}" for ending in ("md", "csv", "png"))
    markdown, table, plot = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(results))
    bar_plot.bars(plot, results, dataset)
    return Page(text, files)


def read_results(out: run_folders.Folder, rows: "Sequence[Row]", runs: int) -> Results:
    """Reads the results of all rows and runs; args as in `write`."""
    users = {row.name: [_users(out, run, row.name) for run in range(runs)] for row in rows}
    return Results(
        {row.name: [_metrics(out, run, row.name) for run in range(runs)] for row in rows},
        users,
        {row.name for row in rows if row.is_cmclrec},
        _columns(rows[0].config, [values for of_row in users.values() for values in of_row]),
    )


def _columns(config: "Config", users: Sequence[run_folders.UserValues]) -> tuple[Column, ...]:
    if not config.data.has_cold_users:
        return LEAVE_ONE_OUT
    if config.data.split == BY_TIME:
        return FIRST_ITEMS if has_all_targets(users) else FIRST_TARGETS
    return QUALITY if has_all_targets(users) else LAST_TARGETS


def _metrics(out: run_folders.Folder, run: int, name: str) -> dict[str, Any]:
    metrics = run_folders.read(run_folders.run_folder(out, run, name))
    assert metrics, f"run {run} of {name} has not finished"
    return metrics


def _users(out: run_folders.Folder, run: int, name: str) -> run_folders.UserValues:
    return run_folders.read_users(run_folders.run_folder(out, run, name))


_EVALUATION = (
    "Full ranking of the catalogue. Warm users are evaluated on their last item; cold users on the "
    "last item, and also on all removed items. Overall counts every user once, by the last item."
)
_LAST_TARGETS = (
    "Full ranking of the catalogue. Every user is evaluated on the last item. For cold users all "
    "removed items give the same numbers: the dataset was prepared with data.target=last, or no "
    "cold user has several. Overall counts every user once."
)
_LEAVE_ONE_OUT = (
    "Full ranking of the catalogue. Every user is evaluated on the last item; no user is cold."
)
_BY_TIME = (
    "Full ranking of the catalogue. Models know the events before a time T only. Warm users have "
    "events before T and are evaluated on the first item at T or later; cold users come at T or "
    "later and are evaluated on their first item{also}. Overall counts every user once, by the "
    "first item. All runs have the same test users; in the tests each counts once, with the mean "
    "of the runs."
)
_FIRST_ITEMS = _BY_TIME.format(also=", and also on all their items")
_FIRST_TARGETS = _BY_TIME.format(also="")
_EVALUATIONS = {
    FIRST_ITEMS: _FIRST_ITEMS,
    FIRST_TARGETS: _FIRST_TARGETS,
    QUALITY: _EVALUATION,
    LAST_TARGETS: _LAST_TARGETS,
    LEAVE_ONE_OUT: _LEAVE_ONE_OUT,
}


def _text(kind: "Table", results: Results, dataset: str, runs: int, command: str | None) -> str:
    versions = [run["versions"] for runs_of_row in results.metrics.values() for run in runs_of_row]
    parts = [
        f"# {dataset}: mean and standard deviation of {runs} runs",
        _EVALUATIONS[results.columns],
        _values(results, results.columns, _share),
        "## Lists",
        "Number of distinct items in all lists of a segment, and mean similarity of two lists "
        "(1: all users get the same list).",
        _values(results, LISTS, _plain),
        *_likelihoods(results),
        *_comparisons(results.compare_with_best(), *WITH_BEST),
        *_comparisons(results.compare_pairs(kind.pairs), *PAIRS),
        "## Budgets",
        _budgets(results),
        *_tuning(results),
        *_published(kind.published),
        *made_by(command, runs, versions),
    ]
    return "\n\n".join(parts)


def _values(results: Results, columns: Sequence[Column], show: Callable[[float], str]) -> str:
    heads = ["model", *(f"{column.label} {column.metric}" for column in columns)]
    lines = [
        [name, *(_cell(results, name, column, show) for column in columns)]
        for name in results.names
    ]
    return markdown_table(heads, lines)


def _likelihoods(results: Results) -> Iterator[str]:
    if any(results.has(name, column) for name in results.names for column in results.likelihoods):
        yield "## Log-likelihood"
        yield (
            "Mean log of the share that a row predicts for the item that overall counts, in nats; "
            "only for rows that predict shares. It differs less by chance than NDCG does."
        )
        yield _values(results, results.likelihoods, "{:.3f}".format)


def _cell(results: Results, name: str, column: Column, show: Callable[[float], str]) -> str:
    return with_deviation(results.mean(name, column), results.deviation(name, column), show)


# Title of the section, and heading of the column that names the second row.
WITH_BEST = ("Against the best row that is not CMCLRec", "best other")
PAIRS = ("Row against row", "against")


def _comparisons(comparisons: Sequence[Comparison], title: str, head: str) -> Iterator[str]:
    if not comparisons:
        return
    yield f"## {title}"
    yield (
        "Ratio of the means, and for the log-likelihood of the geometric means of the predicted "
        "shares; p values of Student's paired t test and of random sign flips, over "
        "the test users of all runs together."
    )
    heads = ["model", "column", head, "ratio", "p (t)", "p (signs)"]
    lines = [
        [
            c.row,
            f"{c.column.label} {c.column.metric}",
            c.other,
            f"{c.ratio:.3f}",
            f"{c.p_t:.2g}",
            f"{c.p_flip:.2g}",
        ]
        for c in comparisons
    ]
    yield markdown_table(heads, lines)


def _budgets(results: Results) -> str:
    heads = ["model", "seconds a run", "most epochs", "patience"]
    lines = []
    for name in results.names:
        seconds = [run["seconds"]["train"] for run in results.metrics[name]]
        settings = results.metrics[name][0]["settings"]
        # A training that was killed and resumed took longer than its last start.
        least = ">= " if any(run.get("resumed") for run in results.metrics[name]) else ""
        lines.append([name, f"{least}{sum(seconds) / len(seconds):.0f}", *_epochs(settings)])
    return markdown_table(heads, lines)


def _tuning(results: Results) -> Iterator[str]:
    """Yields the settings that were tuned: the number of trials is equal, the times are not."""
    tunings = {name: results.metrics[name][0].get("tuning") for name in results.names}
    lines = [
        [
            name,
            str(tuning["trials"]),
            f"{tuning['seconds']:.0f}",
            _share(tuning["val_ndcg_before"]),
            _share(tuning["val_ndcg"]),
            ", ".join(f"{path}={value}" for path, value in tuning["values"].items()),
        ]
        for name, tuning in tunings.items()
        if tuning
    ]
    if not lines:
        return
    yield "## Tuning"
    yield (
        "Random search on the validation users of run 0; the first trial has the untuned settings. "
        "NDCG is the metric of early stopping: of both segments for a row that serves both."
    )
    heads = ["model", "trials", "seconds", "NDCG before", "NDCG tuned", "settings"]
    yield markdown_table(heads, lines)


def _epochs(settings: dict[str, Any]) -> tuple[str, str]:
    if "config" not in settings:
        return str(settings.get("epochs", "-")), str(settings.get("patience", "-"))
    config = settings["config"]
    stage1 = f"{config['pretrain']['epochs']} + " if settings["kind"] == "cmclrec" else ""
    return f"{stage1}{config['finetune']['epochs']}", str(config["finetune"]["patience"])


def _published(table: Published | None) -> Iterator[str]:
    if table:
        yield f"## As published: {table.title}"
        yield NOTE
        lines = [[name, *map(_share, values)] for name, values in table.values.items()]
        yield markdown_table(["method", *COLUMNS], lines)


def _lines(results: Results) -> Iterator[list[object]]:
    """Yields a CSV line for each row, column and run, then for mean and standard deviation."""
    yield ["model", "segment", "metric", "run", "value"]
    for name in results.names:
        likelihoods = [c for c in results.likelihoods if results.has(name, c)]
        for column in (*results.columns, *LISTS, *likelihoods):
            head = [name, column.label, column.metric]
            for number, value in enumerate(results.values(name, column)):
                yield [*head, number, repr(float(value))]
            yield [*head, "mean", repr(results.mean(name, column))]
            yield [*head, "std", repr(results.deviation(name, column))]


def _share(value: float) -> str:
    return f"{value:.4f}".removeprefix("0") if value < 1 else f"{value:.4f}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value > 1 else f"{value:.3f}"

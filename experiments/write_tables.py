"""The tables, as Markdown for people and as CSV for programs."""

import csv
import dataclasses
import math
import pathlib

from experiments import bar_plot, store
from experiments.paper_numbers import COLUMNS, NOTE
from experiments.results import LEAVE_ONE_OUT, LISTS, QUALITY, Results


@dataclasses.dataclass(frozen=True)
class Written:
    """The text of the tables, and where they were written."""

    text: str
    files: tuple[pathlib.Path, ...]


def write(kind, out, dataset, rows, runs, command=None):
    """Makes the tables of what the runs left, and writes them as Markdown, CSV and a plot.

    Args:
        kind: `tables.Table`, which names the files.
        out: folder of the experiment.
        dataset: its name.
        rows: the `Row`s.
        runs: number of runs.
        command: that made it, for the reader.

    Returns:
        `Written`.
    """
    folders = {
        row.name: [store.place(out, number, row.name) for number in range(runs)] for row in rows
    }
    results = Results(
        {name: [store.read(folder) for folder in found] for name, found in folders.items()},
        {name: [store.read_users(folder) for folder in found] for name, found in folders.items()},
        {row.name for row in rows if row.is_cmclrec},
        QUALITY if rows[0].config.data.split == "users" else LEAVE_ONE_OUT,
    )
    text = _text(kind, results, dataset, runs, command)
    files = tuple(pathlib.Path(out) / f"{kind.name}.{ending}" for ending in ("md", "csv", "png"))
    markdown, table, plot = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(results))
    bar_plot.bars(plot, results, dataset)
    return Written(text, files)


_JUDGED = (
    "Full ranking of the catalogue. Warm users are judged on their last item; cold ones on the "
    "last, and beside it on all that was removed. Overall counts every user once, by the last."
)
_LEFT_OUT = "Full ranking of the catalogue. Every user is judged on the last item; nobody is cold."


def _text(kind, results, dataset, runs, command):
    parts = [
        f"# {dataset}: mean and standard deviation of {runs} runs",
        _JUDGED if results.columns == QUALITY else _LEFT_OUT,
        _values(results, results.columns, _share),
        "## Lists",
        "Items that the lists of a segment hold together, and their mean similarity (1: one list "
        "for everybody).",
        _values(results, LISTS, _plain),
        *_compared(results.comparisons(), AGAINST_BEST),
        *_compared(results.paired(kind.pairs), PAIRS),
        "## Budgets",
        _budgets(results),
        *_tuning(results),
        *_published(kind.published),
        *made_by(command, runs, [run["versions"] for of in results.metrics.values() for run in of]),
    ]
    return "\n\n".join(parts)


def _values(results, columns, show):
    heads = ["model", *(f"{column.label} {column.metric}" for column in columns)]
    lines = [
        [name, *(_cell(results, name, column, show) for column in columns)]
        for name in results.names
    ]
    return markdown_table(heads, lines)


def _cell(results, name, column, show):
    return with_deviation(results.mean(name, column), results.deviation(name, column), show)


def with_deviation(mean, deviation, show):
    """Both as one text, `show` making a text of a number; the deviation of one run is NaN."""
    if math.isnan(mean):
        return "-"
    text = show(mean)
    return text if math.isnan(deviation) else f"{text} ± {show(deviation)}"


AGAINST_BEST = ("Against the strongest row that is not CMCLRec", "strongest")
PAIRS = ("Row against row", "against")


def _compared(comparisons, words):
    if not comparisons:
        return
    title, head = words
    yield f"## {title}"
    yield (
        "Ratio of the means; p of Student's paired t test and of random sign flips, over the users "
        "of all runs together."
    )
    heads = ["model", "column", head, "ratio", "p (t)", "p (signs)"]
    lines = [
        [
            c.row,
            f"{c.column.label} {c.column.metric}",
            c.best,
            f"{c.ratio:.3f}",
            f"{c.p_t:.2g}",
            f"{c.p_flip:.2g}",
        ]
        for c in comparisons
    ]
    yield markdown_table(heads, lines)


def _budgets(results):
    heads = ["model", "seconds a run", "most epochs", "patience"]
    lines = []
    for name in results.names:
        seconds = [run["seconds"]["train"] for run in results.metrics[name]]
        settings = results.metrics[name][0]["settings"]
        # A resumed training took longer than its last start.
        least = ">= " if any(run.get("resumed") for run in results.metrics[name]) else ""
        lines.append([name, f"{least}{sum(seconds) / len(seconds):.0f}", *_epochs(settings)])
    return markdown_table(heads, lines)


def _tuning(results):
    """What was tuned; the budget, trials, is the same for all, as the times are not."""
    found = {name: results.metrics[name][0].get("tuning") for name in results.names}
    found = {name: tuning for name, tuning in found.items() if tuning}
    if not found:
        return
    yield "## Tuning"
    yield (
        "Random search on the validation users of run 0, the first trial with the settings as they "
        "are. NDCG is that by which the row is stopped early: of both segments if it serves both."
    )
    heads = ["model", "trials", "seconds", "NDCG before", "NDCG tuned", "settings"]
    lines = [
        [
            name,
            str(tuning["trials"]),
            f"{tuning['seconds']:.0f}",
            _share(tuning["val_ndcg_before"]),
            _share(tuning["val_ndcg"]),
            ", ".join(f"{path}={value}" for path, value in tuning["values"].items()),
        ]
        for name, tuning in found.items()
    ]
    yield markdown_table(heads, lines)


def _epochs(settings):
    if "config" not in settings:
        return str(settings.get("epochs", "-")), str(settings.get("patience", "-"))
    config = settings["config"]
    stage1 = f"{config['pretrain']['epochs']} + " if settings["kind"] == "cmclrec" else ""
    return f"{stage1}{config['finetune']['epochs']}", str(config["finetune"]["patience"])


def _published(printed):
    if printed:
        yield f"## As published: {printed.title}"
        yield NOTE
        lines = [[name, *map(_share, values)] for name, values in printed.values.items()]
        yield markdown_table(["method", *COLUMNS], lines)


def made_by(command, runs, versions):
    """What one needs to make a table again: paragraphs.

    Args:
        command: None leaves it out.
        runs: how many.
        versions: {name: version} of everything that was trained; all that differ are told.
    """
    yield "## Made by"
    if command:
        yield f"```\n{command}\n```"
    last = f" to {runs - 1}" if runs > 1 else ""
    used = [
        f"{name} {' and '.join(sorted({found[name] for found in versions}))}"
        for name in versions[0]
    ]
    yield f"Salts and seeds 0{last}. {', '.join(used)}."


def _lines(results):
    """A line a row, column and run, and then the means."""
    yield ["model", "segment", "metric", "run", "value"]
    for name in results.names:
        for column in (*results.columns, *LISTS):
            head = [name, column.label, column.metric]
            for number, value in enumerate(results.values(name, column)):
                yield [*head, number, repr(float(value))]
            yield [*head, "mean", repr(results.mean(name, column))]
            yield [*head, "std", repr(results.deviation(name, column))]


def _share(value):
    return f"{value:.4f}".removeprefix("0") if value < 1 else f"{value:.4f}"


def _plain(value):
    return f"{value:.0f}" if value > 1 else f"{value:.3f}"


def markdown_table(heads, lines):
    """A table of texts: its heads, and lines of as many cells."""
    table = [heads, *lines]
    widths = [max(len(line[at]) for line in table) for at in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in (heads, rule, *lines)
    )

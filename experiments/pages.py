"""Parts of a page of results: its files, tables in Markdown, and how it was made."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

from experiments.run_folders import Versions


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of results: its text, and the files that hold it."""

    text: str
    files: tuple[pathlib.Path, ...]


def with_deviation(mean: float, deviation: float, show: Callable[[float], str]) -> str:
    """Formats a mean and a standard deviation by `show`; the deviation of one run is NaN."""
    if math.isnan(mean):
        return "-"
    text = show(mean)
    return text if math.isnan(deviation) else f"{text} ± {show(deviation)}"


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table from headings and lines of as many cells."""
    table = [heads, *lines]
    widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in (heads, rule, *lines)
    )


def made_by(command: str | None, runs: int, versions: Sequence[Versions]) -> Iterator[str]:
    """Yields paragraphs that say how to reproduce a table.

    Args:
        command: the command line; None leaves it out.
        runs: number of runs.
        versions: library versions of each training; all that differ are listed.
    """
    yield "## Made by"
    if command:
        yield f"```\n{command}\n```"
    last = f" to {runs - 1}" if runs > 1 else ""
    used = [
        f"{name} {' and '.join(sorted({each[name] for each in versions}))}" for name in versions[0]
    ]
    yield f"Salts and seeds 0{last}. {', '.join(used)}."

"""Defines the rows of the performance table and the command line that every benchmark shares."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured, and against what.
        value: the figure in `unit`; None if it could not be measured on this machine.
        unit: such as `x` for a ratio, `s`, `users/s`.
        at_least, at_most: the target; both are None if the figure has no target.
        detail: the numbers behind the figure, such as both sides of a ratio with their units.
    """

    what: str
    value: float | None
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure meets its target; None without a target or a figure."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The target as text."""
        low = "" if self.at_least is None else f">= {self.at_least:g}"
        return low or ("" if self.at_most is None else f"<= {self.at_most:g}")


def text(rows: Iterable[Row]) -> str:
    """Returns the table as Markdown."""
    lines = ["| what | figure | target | met | detail |", "|---|---|---|---|---|"]
    marks = {True: "yes", False: "**no**", None: ""}
    for row in rows:
        figure = "not run" if row.value is None else f"{row.value:.3g} {row.unit}"
        cells = (row.what, figure, row.target, marks[row.met], row.detail)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows: Iterable[Row], path: str | os.PathLike[str]) -> None:
    """Writes rows as JSON, for `read`."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))


def read(path: str | os.PathLike[str]) -> list[Row]:
    """Returns the rows of a file that `write` has written."""
    return [Row(**values) for values in json.loads(pathlib.Path(path).read_text())]


def run_in_process(module: str, *arguments: object) -> dict[str, Any]:
    """Calls the `measure_one` of a benchmark in a new process, so that peak memory is its own.

    Args:
        module: name of the benchmark module, which passes `measure_one` to `main`.
        arguments: arguments of `measure_one`.

    Returns:
        The figures of `measure_one`.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", "--one", *map(str, arguments)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def main(
    measure: Callable[[bool], Iterable[Row]],
    description: str | None,
    measure_one: Callable[..., dict[str, Any]] | None = None,
) -> None:
    """Runs one benchmark as a command: measures, prints the table, and writes it to `--out`.

    Args:
        measure: `measure(quick) -> rows`; `quick` selects small sizes that only prove that the
            benchmark runs.
        description: text for `--help`.
        measure_one: `measure_one(*texts) -> figures`, the part that `run_in_process` calls, if any.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="Use small sizes, which prove that it runs."
    )
    parser.add_argument("--out", help="JSON file to write the rows to.")
    parser.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one and measure_one:
        print(json.dumps(measure_one(*arguments.one)))
        return
    rows: list[Row] = []
    for row in measure(arguments.quick):
        rows.append(row)
        if arguments.out:  # what is measured stays if the rest fails
            write(rows, arguments.out)
    print(text(rows))

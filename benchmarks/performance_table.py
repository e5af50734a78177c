"""Rows of the performance table: what was measured, against what, and the target of it."""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        value: the figure, in `unit`; None where it could not be measured here.
        unit: such as `x` for a ratio, `s`, `users/s`.
        at_least, at_most: the target; both None where the figure has none.
        detail: what it is made of, such as the two sides of a ratio with their units.
    """

    what: str
    value: float | None
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def met(self):
        """Whether the target is met; None without a target or a figure."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self):
        """The target as text."""
        low = "" if self.at_least is None else f">= {self.at_least:g}"
        return low or ("" if self.at_most is None else f"<= {self.at_most:g}")


def text(rows):
    """The table as Markdown."""
    lines = ["| what | figure | target | met | detail |", "|---|---|---|---|---|"]
    said = {True: "yes", False: "**no**", None: ""}
    for row in rows:
        figure = "not run" if row.value is None else f"{row.value:.3g} {row.unit}"
        cells = (row.what, figure, row.target, said[row.met], row.detail)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(rows, path) -> None:
    """Writes rows as JSON, for `read`."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))


def read(path):
    """The rows of a file that `write` made."""
    return [Row(**values) for values in json.loads(pathlib.Path(path).read_text())]


def in_a_process(module, *arguments):
    """What the `one` of a benchmark gives for these arguments, in a process of its own.

    Args:
        module: name of the benchmark, whose `main` was given `one`.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", "--one", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(measure, description, one=None) -> None:
    """The command of one benchmark: measures, prints the table, writes it where `--out` says.

    Args:
        measure: `measure(quick) -> rows`; `quick` asks for small sizes, which prove that it runs.
        description: of the command.
        one: `one(*texts) -> figures`, a part that `in_a_process` asks for, if there is any.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes: proves that it runs")
    parser.add_argument("--out", help="JSON file for the rows")
    parser.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    rows = list(measure(given.quick))
    print(text(rows))
    if given.out:
        write(rows, given.out)

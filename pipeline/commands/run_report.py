"""Formats the results of a run: metrics, folders of the results, commands to try next."""

import pathlib
import shlex
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.floors import repeats, segment_table
from pipeline.evaluation.slices import SEGMENTS, largest_slices, mean_with_interval
from pipeline.storage.folders import AnyPath

if TYPE_CHECKING:
    from pipeline.commands.run_results import Run


def segments(run: "Run") -> str:
    """Returns a table of the model and popularity by segment, and a line for each warning."""
    evaluate = run.config.evaluate
    lines = [f"\n{segment_table(run.rows, run.floors, evaluate.k)}"]
    lines += [f"Warning: {line}" for line in run.warnings]
    if line := repeats(run.rows, evaluate.hides_history):
        lines.append(line)
    return "\n".join(lines)


def quality(run: "Run") -> str:
    """Returns a table of Recall and NDCG with 95 % intervals, by segment and by user feature."""
    names = [f"{metric}@{run.config.evaluate.k}" for metric in ("recall", "ndcg")]
    slices, hidden = largest_slices(run.slices)
    groups = [(name, run.rows[name]) for name in SEGMENTS if name in run.rows]
    groups += [(f"{s.feature}={printable(s.value)}, {s.segment}", s.metrics) for s in slices]
    rows = [["", "users", *names]]
    for group, metrics in groups:
        means = [mean_with_interval(metrics, name) for name in names]
        rows.append([group, f"{metrics['users']:.0f}", *means])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["\nTest users, with 95 % confidence intervals"]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  {feature}: {number} more values" for feature, number in hidden.items()]
    return "\n".join(lines)


def places(run: "Run") -> str:
    """Returns a list of the folders and files with the results of a run."""
    tuned = ", ".join(f"{path}={value:g}" for path, value in run.tuned_settings.items())
    entries = {
        "raw files": run.data_dir,
        f"data anomalies: {run.anomalies}": run.validation,
        "transformed data": run.transformed_examples,
        **({"tuned settings": tuned} if tuned else {}),
        "model": run.model,
        "compared with": run.baseline or "(no other model)",
        "TensorBoard logs": run.logs,
        "evaluation": run.evaluation,
        "model card": pathlib.Path(run.card) / "model_card.html",
        "pushed version": run.pushed_version or "(none: the model was not blessed)",
        "metadata": run.folders.metadata,
    }
    width = max(map(len, entries)) + 2
    lines = [f"  {name.ljust(width)}{_short(place)}" for name, place in entries.items()]
    return "\n".join(["\nResults", *lines])


def next_commands(run: "Run", profile: Mapping[str, Any]) -> str:
    """Returns three commands to try next.

    Args:
        run: a run that pushed its model.
        profile: `{user feature: value}` of a new user to recommend to.
    """
    features = "".join(
        f" --feature {shlex.quote(f'{name}={text}')}"
        for name, value in profile.items()
        for text in texts(value)
    )
    return "\n".join(
        [
            "\nTry next",
            f"  {_program('cmclrec')} serve --model_base_path {_short(run.folders.serving)}",
            f"  {_program('cmclrec')} recommend cold{features} -k 10    # while it serves",
            f"  {_program('tensorboard')} --logdir {_short(run.logs)}",
        ]
    )


def texts(value: "str | float | list[str]") -> list[str]:
    """Returns the value or values of a user feature as printable strings."""
    if isinstance(value, float):
        # Records hold float32. This is the shortest text that reads as the same float32.
        return [np.format_float_positional(np.float32(value), trim="-")]
    return [printable(text) for text in (value if isinstance(value, list) else [value])]


def printable(text: str) -> str:
    """Returns the text with a replacement character for each byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _program(name: str) -> str:
    """Returns what to type in a shell to start a program of this environment."""
    return name if shutil.which(name) else _short(pathlib.Path(sys.prefix) / "bin" / name)


def _short(path: AnyPath) -> str:
    """Returns the path relative to the working directory if it is below it."""
    path, here = pathlib.Path(path), pathlib.Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

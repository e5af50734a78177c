"""What a run says at its end: the segment table, where everything lies, what to try next."""

import pathlib
import shlex
import shutil
import sys

import numpy as np

from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.evaluation.report import evaluate, table
from cmclrec_tf.schema import COLD, OVERALL, TEST, WARM
from pipeline.evaluation.slices import SEGMENTS, shown, told


def segments(run) -> str:
    """The model's row beside popularity's, by segment, as text.

    The model's numbers are the Evaluator's; popularity is computed here, on the same users.

    Args:
        run: `pipeline.commands.run.Run`.
    """
    dataset, k = run.dataset(), run.config.evaluate.k
    rows = {"CMCLRec": run.rows}
    for name, events in (("popularity, all events", "all"), ("popularity, last events", "last")):
        rows[name] = evaluate(Popularity(dataset, events), dataset, TEST, ks=(k,)).rows
    users = ", ".join(f"{run.rows[name]['users']:.0f} {name}" for name in (WARM, COLD, OVERALL))
    names = (f"recall@{k}", f"ndcg@{k}", f"coverage@{k}")
    return f"\nTest users: {users}\n{table(rows, names)}"


def quality(run):
    """Recall and NDCG with 95 % intervals, by segment and by user feature, as text.

    Args:
        run: `pipeline.commands.run.Run`.
    """
    names = [f"{metric}@{run.config.evaluate.k}" for metric in ("recall", "ndcg")]
    kept, left_out = shown(run.slices)
    found = [(name, run.rows[name]) for name in SEGMENTS if name in run.rows]
    found += [(f"{s.feature}={printable(s.value)}, {s.segment}", s.metrics) for s in kept]
    rows = [("", "users", *names)]
    rows += [(of, f"{m['users']:.0f}", *(told(m, name) for name in names)) for of, m in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["\nTest users, with 95 % confidence intervals"]
    lines += [
        "  "
        + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [f"  {feature}: {number} more values" for feature, number in left_out.items()]
    return "\n".join(lines)


def places(run):
    """Where a run's results lie, as text."""
    entries = {
        "raw files": run.data_dir,
        f"data anomalies: {run.anomalies}": run.validation,
        "prepared data": run.prepared,
        **({"tuned": ", ".join(f"{p}={v:g}" for p, v in run.tuned.items())} if run.tuned else {}),
        "model": run.model,
        "compared with": run.baseline or "(no other model)",
        "TensorBoard logs": run.logs,
        "evaluation": run.evaluation,
        "model card": pathlib.Path(run.card) / "model_card.html",
        "pushed version": run.pushed or "(none: the model was not blessed)",
        "metadata": run.folders.metadata,
    }
    width = max(map(len, entries)) + 2
    lines = [f"  {name.ljust(width)}{_short(place)}" for name, place in entries.items()]
    return "\n".join(["\nWhere everything lies", *lines])


def next_commands(run, profile):
    """Three commands to try next, as text.

    Args:
        run: `pipeline.commands.run.Run`.
        profile: `{user feature: value}` of a new user to ask for.
    """
    given = "".join(
        f" --feature {shlex.quote(f'{name}={text}')}"
        for name, value in profile.items()
        for text in texts(value)
    )
    return "\n".join(
        [
            "\nTry next",
            f"  {_program('cmclrec')} serve --model_base_path {_short(run.folders.serving)}",
            f"  {_program('cmclrec')} recommend cold{given} -k 10    # while it serves",
            f"  {_program('tensorboard')} --logdir {_short(run.logs)}",
        ]
    )


def texts(value):
    """A user feature's value as printable strings, one for each of a `multi` feature's values."""
    if isinstance(value, float):
        # The shortest text that reads as the same float32, which is what a record holds.
        return [np.format_float_positional(np.float32(value), trim="-")]
    return [printable(text) for text in (value if isinstance(value, list) else [value])]


def printable(text):
    """The text with what is no UTF-8 marked as such, for display alone."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _program(name):
    """How a shell here calls a program of this environment."""
    return name if shutil.which(name) else _short(pathlib.Path(sys.prefix) / "bin" / name)


def _short(path):
    """The path as seen from the working directory, if it lies below it."""
    path, here = pathlib.Path(path), pathlib.Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

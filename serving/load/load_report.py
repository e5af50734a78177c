"""Writes the results of a load test as a table, as JSON and as a plot."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from serving.load.measure import Step


def table(steps: Iterable[Step], p99_ms: float) -> str:
    """Returns a Markdown table with one row per series.

    A row shows the latencies at the lowest rate and the highest rate that met `p99_ms`.
    """
    lines = [
        "| signature | users | at rate | p50 ms | p90 ms | p99 ms | errors "
        f"| highest rate with p99 <= {p99_ms:g} ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (signature, rows), series in by_series(steps).items():
        first = series[0].result
        met = [step.result.achieved for step in series if step.meets(p99_ms)]
        errors = sum(sum(step.result.errors.values()) for step in series)
        highest = "none" if not met else f"{max(met):.0f}/s, {rows * max(met):.0f} users/s"
        # A series that met its last rate may sustain a higher one.
        more = "+" if met and series[-1].meets(p99_ms) else ""
        lines.append(
            f"| `{signature}` | {rows} | {first.offered:.0f}/s | {first.p50:.1f} "
            f"| {first.p90:.1f} | {first.p99:.1f} | {errors} | {highest}{more} |"
        )
    return "\n".join(lines)


def first_table(first: Mapping[bool, Mapping[str, float]]) -> str:
    """Returns the result of `measure.first_answers` as a Markdown table."""
    lines = ["| signature | first answer without warmup, ms | with, ms |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {first[False][name]:.1f} | {first[True][name]:.1f} |" for name in first[True]
    ]
    return "\n".join(lines)


def by_series(steps: Iterable[Step]) -> dict[tuple[str, int], list[Step]]:
    """Groups steps by signature and users per request."""
    series: dict[tuple[str, int], list[Step]] = {}
    for step in steps:
        series.setdefault((step.signature, step.rows), []).append(step)
    return series


def write(
    folder: str | os.PathLike[str],
    steps: Sequence[Step],
    first: Mapping[bool, Mapping[str, float]],
    p99_ms: float,
) -> str:
    """Writes `loadtest.json`, `loadtest.md` and `loadtest.png`.

    Args:
        folder: folder for the files; it is created if needed.
        steps: steps of the load test.
        first: result of `measure.first_answers`; empty if it was not measured.
        p99_ms: limit that the rates were raised to.

    Returns:
        The text of `loadtest.md`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"steps": [dataclasses.asdict(step) for step in steps], "first_answers": first}
    (folder / "loadtest.json").write_text(json.dumps(content, indent=1))
    text = table(steps, p99_ms) + ("\n\n" + first_table(first) if first else "") + "\n"
    (folder / "loadtest.md").write_text(text)
    _plot(folder / "loadtest.png", steps, p99_ms)
    return text


def _plot(path: pathlib.Path, steps: Sequence[Step], p99_ms: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = sorted({step.rows for step in steps})
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(6 * len(sizes), 4.5), squeeze=False)
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(s.signature for s in steps))}
    for panel, rows in zip(panels[0], sizes, strict=True):
        for (signature, size), series in by_series(steps).items():
            if size == rows:
                panel.plot(
                    [step.result.offered for step in series],
                    [step.result.p99 for step in series],
                    marker="o",
                    color=colours[signature],
                    label=signature,
                )
        panel.axhline(p99_ms, color="grey", linewidth=0.8)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel="requests per second",
            ylabel="p99, ms",
            title=f"{rows} user{'s' if rows > 1 else ''} per request",
        )
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

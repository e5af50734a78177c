"""What a load test found, as a table, as JSON and as a plot."""

import dataclasses
import json
import pathlib


def table(steps, p99_ms):
    """A Markdown table: a row a series, at its lowest rate and at the highest that it can take."""
    lines = [
        "| signature | users | batching | at rate | p50 ms | p90 ms | p99 ms | errors "
        f"| highest rate with p99 <= {p99_ms:g} ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (signature, rows, batching), series in by_series(steps).items():
        first = series[0].result
        met = [step.result.achieved for step in series if step.meets(p99_ms)]
        errors = sum(sum(step.result.errors.values()) for step in series)
        highest = "none" if not met else f"{max(met):.0f}/s, {rows * max(met):.0f} users/s"
        # The last rate that was tried was met: there may be more to it.
        more = "+" if met and series[-1].meets(p99_ms) else ""
        lines.append(
            f"| `{signature}` | {rows} | {_on(batching)} | {first.offered:.0f}/s | {first.p50:.1f} "
            f"| {first.p90:.1f} | {first.p99:.1f} | {errors} | {highest}{more} |"
        )
    return "\n".join(lines)


def first_table(first):
    """A Markdown table of `measure.first_answers`."""
    lines = ["| signature | first answer without warmup, ms | with, ms |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {first[False][name]:.1f} | {first[True][name]:.1f} |" for name in first[True]
    ]
    return "\n".join(lines)


def by_series(steps):
    """{(signature, rows, batching): its steps}."""
    found = {}
    for step in steps:
        found.setdefault((step.signature, step.rows, step.batching), []).append(step)
    return found


def write(folder, steps, first, p99_ms):
    """Writes `loadtest.json`, `loadtest.md` and `loadtest.png`.

    Returns:
        The text of `loadtest.md`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    told = {"steps": [dataclasses.asdict(step) for step in steps], "first_answers": first}
    (folder / "loadtest.json").write_text(json.dumps(told, indent=1))
    text = table(steps, p99_ms) + ("\n\n" + first_table(first) if first else "") + "\n"
    (folder / "loadtest.md").write_text(text)
    _plot(folder / "loadtest.png", steps, p99_ms)
    return text


def _plot(path, steps, p99_ms):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = sorted({step.rows for step in steps})
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(6 * len(sizes), 4.5), squeeze=False)
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(s.signature for s in steps))}
    for panel, rows in zip(panels[0], sizes, strict=True):
        for (signature, size, batching), series in by_series(steps).items():
            if size == rows:
                panel.plot(
                    [step.result.offered for step in series],
                    [step.result.p99 for step in series],
                    marker="o",
                    color=colours[signature],
                    linestyle="--" if batching else "-",
                    label=f"{signature}, {_on(batching)}" if batching is not None else signature,
                )
        panel.axhline(p99_ms, color="grey", linewidth=0.8)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel="requests a second",
            ylabel="p99, ms",
            title=f"{rows} user{'s' if rows > 1 else ''} a request",
        )
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _on(batching):
    return {None: "", False: "off", True: "on"}[batching]

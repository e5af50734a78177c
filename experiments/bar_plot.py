"""Plots of the tables."""

from pipeline.evaluation.plots import figure


def bars(path, results, dataset) -> None:
    """NDCG of every row, a panel a segment: means, and standard deviations over the runs.

    Args:
        path: of the PNG.
        results: `Results`.
        dataset: its name, above.
    """
    columns = [c for c in results.columns if c.metric == "NDCG@20"]
    drawn = figure(3.2 * len(columns) + 1.5, 0.26 * len(results.names) + 1.2)
    names = results.names[::-1]
    colours = ["tab:blue" if name in results.ours else "tab:grey" for name in names]
    panels = drawn.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        means = [results.mean(name, column) for name in names]
        deviations = [results.deviation(name, column) for name in names]
        axes.barh(names, means, xerr=deviations, color=colours)
        axes.set_title(f"{column.label}, {column.metric}")
    drawn.suptitle(dataset)
    drawn.savefig(path, dpi=120)

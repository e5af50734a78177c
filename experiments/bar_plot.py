"""Bar plots of the tables."""

from typing import TYPE_CHECKING

from experiments.run_folders import Folder
from pipeline.evaluation.plots import figure

if TYPE_CHECKING:
    from experiments.table_results import Results


def bars(path: Folder, results: "Results", dataset: str) -> None:
    """Plots NDCG@20 of every row, one panel per segment, with standard deviations over the runs.

    Args:
        path: path of the PNG to write.
        results: `Results`.
        dataset: name of the dataset, the title of the plot.
    """
    columns = [c for c in results.columns if c.metric == "NDCG@20"]
    plot = figure(3.2 * len(columns) + 1.5, 0.26 * len(results.names) + 1.2)
    names = results.names[::-1]
    colours = ["tab:blue" if name in results.ours else "tab:grey" for name in names]
    panels = plot.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        means = [results.mean(name, column) for name in names]
        deviations = [results.deviation(name, column) for name in names]
        axes.barh(names, means, xerr=deviations, color=colours)
        axes.set_title(f"{column.label}, {column.metric}")
    plot.suptitle(dataset)
    plot.savefig(path, dpi=120)

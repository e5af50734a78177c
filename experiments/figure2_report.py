"""Computes the numbers of Figure 2, and writes table, picture and projector files."""

import csv
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.callbacks import write_projector
from cmclrec_tf.schema import COLD, WARM
from experiments.bar_plot import figure
from experiments.pages import Page, made_by, markdown_table, with_deviation
from experiments.run_folders import Folder, Versions
from experiments.table_results import deviation

if TYPE_CHECKING:
    from experiments.table_rows import Row

STATES = ("before", "after")

Vectors: TypeAlias = dict[str, NDArray[np.float32]]
"""Vectors of users by name, see `figure2.user_vectors`; with the state: {'before/warm': [n, D]}."""
Floats: TypeAlias = NDArray[np.floating]
Values: TypeAlias = dict[str, list[dict[str, float]]]
"""{state: the numbers of each run}."""

_LEGEND = (
    "Each vector is the mean of a user's newest {positions} positions: of the history T_s for warm "
    "test users, of the simulated history T_s' for cold ones, {users} of each. MMD, Eq. (9), is a "
    "distance between two sets of users, from 0 to 2. It compares half of the users of each; the "
    "MMD of one half of the warm users and the other half shows the size of chance differences. "
    "Spread is the variance of T_s' over cold users divided by that of T_s: 0 if all cold users "
    "look the same. Cosines are those of warm users, around the mean of each set: of T_s' with the "
    "T_s of the same user, and with the T_s of other users."
)


def numbers(vectors: Vectors, state: str) -> dict[str, float]:
    """Returns the rows of the table for one run, {name: number}.

    Args:
        vectors: vectors of the run.
        state: `before` or `after`.
    """
    warm, cold, simulated_warm, codes_s, codes_f = (
        vectors[f"{state}/{name}"] for name in ("warm", "cold", "own", "codes_s", "codes_f")
    )
    half = len(warm) // 2
    same, others = cosines(simulated_warm, warm)
    return {
        "MMD of histories": _mmd(warm[:half], cold[:half]),
        "MMD of warm and warm histories": _mmd(warm[:half], warm[half : 2 * half]),
        "MMD of codes": _mmd(codes_s[:half], codes_f[:half]),
        "MMD of warm and warm codes": _mmd(codes_s[:half], codes_s[half : 2 * half]),
        "spread": float(cold.var(axis=0).sum() / max(warm.var(axis=0).sum(), 1e-30)),
        "cosine with own history": same,
        "cosine with others' histories": others,
    }


def cosines(simulated: Floats, real: Floats) -> tuple[float, float]:
    """Returns the mean cosine of simulated with real vectors [n, D] around the means of each set.

    Returns:
        The mean over pairs of the same user, and the mean over pairs of different users.
    """
    simulated, real = _directions(simulated), _directions(real)
    n, same = len(real), float((simulated * real).sum())
    all_pairs = float(simulated.sum(axis=0) @ real.sum(axis=0))
    return same / n, (all_pairs - same) / (n * (n - 1))


def _directions(x: Floats) -> Floats:
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _mmd(one: Floats, other: Floats) -> float:
    from cmclrec_tf.losses.mmd import mmd

    return float(mmd(one, other))


def write(
    out: Folder,
    dataset: str,
    row: "Row",
    runs: Sequence[Vectors],
    versions: Sequence[Versions],
    command: str | None = None,
) -> Page:
    """Writes figure2-<row>.md, .csv and .png, and a folder of projector files of run 0.

    Args:
        out: folder of the experiment.
        dataset: name of the dataset.
        row: the `Row` whose stage 1 was trained.
        runs: the vectors of each run.
        versions: library versions of each run.
        command: the command line, printed below the numbers.
    """
    out = pathlib.Path(out)
    values = {state: [numbers(vectors, state) for vectors in runs] for state in STATES}
    users = [len(vectors[f"{STATES[0]}/warm"]) for vectors in runs]
    made = made_by(command, len(runs), versions)
    text = "\n\n".join([*_parts(dataset, row, users, values), *made])
    stem = f"figure2-{row.name}"
    files = tuple(out / f"{stem}{ending}" for ending in (".md", ".csv", ".png", ""))
    markdown, table, picture, projector = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(values))
    _picture(picture, runs[0], row.config.seed)
    write_projector(projector, _labelled_vectors(runs[0]))
    return Page(text, files)


def _parts(dataset: str, row: "Row", users: Sequence[int], values: Values) -> list[str]:
    names = list(values["before"][0])
    lines = [
        [name, *(_cell([run[name] for run in runs_of_state]) for runs_of_state in values.values())]
        for name in names
    ]
    positions = row.config.model.simulated_positions(row.config.data.max_history)
    least, most = min(users), max(users)
    count = f"{least}" if least == most else f"{least} to {most}"
    return [
        f"# {dataset}: histories around stage 1 of `{row.name}`, {len(users)} runs",
        _LEGEND.format(positions=positions, users=count),
        markdown_table(["", "before stage 1", "after stage 1"], lines),
        "The plot shows run 0 by t-SNE; the folder with its name is for TensorBoard's projector.",
    ]


def _cell(values: Sequence[float]) -> str:
    return with_deviation(float(np.mean(values)), deviation(values), "{:.3f}".format)


def _lines(values: Values) -> Iterator[list[object]]:
    yield ["state", "number", "run", "value"]
    for state, runs in values.items():
        for run, numbers_of_run in enumerate(runs):
            for name, value in numbers_of_run.items():
                yield [state, name, run, repr(value)]


def _labelled_vectors(vectors: Vectors) -> dict[str, tuple[NDArray[np.float32], list[str]]]:
    """Returns {state: (vectors of all users, the segment of each)}."""
    tables = {}
    for state in STATES:
        warm, cold = vectors[f"{state}/warm"], vectors[f"{state}/cold"]
        texts = [WARM] * len(warm) + [COLD] * len(cold)
        tables[f"{state}_stage_1"] = np.concatenate([warm, cold]), texts
    return tables


def _picture(path: Folder, vectors: Vectors, seed: int) -> None:
    """Plots both states side by side; each has its own t-SNE, so the axes have no meaning."""
    plot = figure(10, 5)
    panels = zip(plot.subplots(1, 2), _labelled_vectors(vectors).items(), strict=True)
    for axes, (state, (rows, texts)) in panels:
        points = _two_dimensions(rows, seed)
        for segment, colour, name in ((WARM, "tab:red", "T_s"), (COLD, "tab:blue", "T_s'")):
            users = points[np.array(texts) == segment]
            axes.scatter(*users.T, s=4, c=colour, label=f"{name}, {segment} users")
        axes.set_title(state.replace("_", " "))
        axes.set_xticks([])
        axes.set_yticks([])
    axes.legend(loc="lower right")
    plot.savefig(path, dpi=120)


def _two_dimensions(rows: Floats, seed: int) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)

"""The numbers, the picture and the projector's files of Figure 2."""

import csv
import pathlib

import numpy as np

from cmclrec_tf.callbacks import write_projector
from cmclrec_tf.schema import COLD, WARM
from experiments import store
from experiments.plots import figure
from experiments.results import deviation
from experiments.table import Written, made_by, markdown_table, with_deviation

_SAID = (
    "Vectors are means over the newest {positions} positions: of T_s for warm test users, of the "
    "simulated T_s' for cold ones, at most {users} of each. MMD is that of Eq. (9), from 0 (one "
    "distribution) to 2; between two halves of the warm users it is what sampling alone gives. "
    "Spread is the variance of T_s' of cold users divided by that of T_s: 0 if all cold users look "
    "alike. Cosines are of warm users, around the mean of each set: T_s' with the T_s of the same "
    "user, and with those of others."
)


def numbers(vectors, state):
    """The rows of the table for one run.

    Args:
        vectors: what `figure2.run` keeps of a run, {'before/warm': [n, D], ...}.
        state: `before` or `after`.

    Returns:
        {name: float}.
    """
    warm, cold, own, codes_s, codes_f = (
        vectors[f"{state}/{name}"] for name in ("warm", "cold", "own", "codes_s", "codes_f")
    )
    half = len(warm) // 2
    same, others = cosines(own, warm)
    return {
        "MMD of histories": _mmd(warm, cold),
        "MMD of two halves of warm users": _mmd(warm[:half], warm[half : 2 * half]),
        "MMD of codes": _mmd(codes_s, codes_f),
        "spread": float(cold.var(axis=0).sum() / max(warm.var(axis=0).sum(), 1e-30)),
        "cosine with own history": same,
        "cosine with others' histories": others,
    }


def cosines(simulated, real):
    """Mean cosine of simulated [n, D] with real [n, D] vectors, around their means: own, others."""
    simulated, real = _directions(simulated), _directions(real)
    n, own = len(real), float((simulated * real).sum())
    everybody = float(simulated.sum(axis=0) @ real.sum(axis=0))
    return own / n, (everybody - own) / (n * (n - 1))


def _directions(x):
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _mmd(one, other):
    from cmclrec_tf.losses.mmd import mmd

    return float(mmd(one, other))


def write(out, dataset, row, users, found, command=None):
    """Writes figure2.md, .csv, .png, and the projector's files of run 0.

    Args:
        out: folder of the experiment.
        dataset: its name.
        row: the `Row` whose stage 1 it is.
        users: of each segment at most.
        found: the vectors of each run.
        command: that made it, for the reader.

    Returns:
        `table.Written`.
    """
    out = pathlib.Path(out)
    values = {
        state: [numbers(vectors, state) for vectors in found] for state in ("before", "after")
    }
    text = _text(dataset, row, users, values, len(found), command)
    files = tuple(out / f"figure2.{ending}" for ending in ("md", "csv", "png"))
    markdown, table, picture = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(values))
    _picture(picture, found[0], row.config.seed)
    write_projector(out / "figure2-projector", _tables(found[0]))
    return Written(text, files)


def _text(dataset, row, users, values, runs, command):
    names = list(values["before"][0])
    lines = [
        [name, *(_cell([run[name] for run in runs_of_state]) for runs_of_state in values.values())]
        for name in names
    ]
    model = row.config.model
    positions = min(model.simulated or row.config.data.max_history, row.config.data.max_history)
    parts = [
        f"# {dataset}: simulated and real histories around stage 1 of `{row.name}`, {runs} runs",
        _SAID.format(positions=positions, users=users),
        markdown_table(["", "before stage 1", "after stage 1"], lines),
        "figure2.png shows run 0 by t-SNE, figure2-projector the same vectors in TensorBoard.",
        *made_by(command, runs, store.versions()),
    ]
    return "\n\n".join(parts)


def _cell(values):
    return with_deviation(float(np.mean(values)), deviation(values), "{:.3f}".format)


def _lines(values):
    yield ["state", "number", "run", "value"]
    for state, runs in values.items():
        for run, numbers_of_run in enumerate(runs):
            for name, value in numbers_of_run.items():
                yield [state, name, run, repr(value)]


def _tables(vectors):
    """For the projector: {state: (vectors, texts)}."""
    tables = {}
    for state in ("before", "after"):
        warm, cold = vectors[f"{state}/warm"], vectors[f"{state}/cold"]
        texts = [WARM] * len(warm) + [COLD] * len(cold)
        tables[f"{state}_stage_1"] = np.concatenate([warm, cold]), texts
    return tables


def _picture(path, vectors, seed):
    """Both states side by side; each has a t-SNE of its own, so axes mean nothing."""
    drawn = figure(10, 5)
    panels = zip(drawn.subplots(1, 2), _tables(vectors).items(), strict=True)
    for axes, (state, (rows, texts)) in panels:
        places = _two_dimensions(rows, seed)
        for segment, colour, name in ((WARM, "tab:red", "T_s"), (COLD, "tab:blue", "T_s'")):
            chosen = places[np.array(texts) == segment]
            axes.scatter(*chosen.T, s=4, c=colour, label=f"{name}, {segment} users")
        axes.set_title(state.replace("_", " "))
        axes.set_xticks([])
        axes.set_yticks([])
    axes.legend(loc="lower right")
    drawn.savefig(path, dpi=120)


def _two_dimensions(rows, seed):
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)

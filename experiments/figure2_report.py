"""The numbers, the picture and the projector's files of Figure 2."""

import csv
import pathlib

import numpy as np

from cmclrec_tf.callbacks import write_projector
from cmclrec_tf.schema import COLD, WARM
from experiments.bar_plot import figure
from experiments.results import deviation
from experiments.write_tables import Written, made_by, markdown_table, with_deviation

STATES = ("before", "after")

_SAID = (
    "Vectors are means over the newest {positions} positions: of T_s for warm test users, of the "
    "simulated T_s' for cold ones, {users} of each. MMD is that of Eq. (9), from 0 to 2, between "
    "half of the users of each; that of one half of the warm users and the other is what as many "
    "users differ by without a reason. Spread is the variance of T_s' of cold users divided by "
    "that of T_s: 0 if all cold users look alike. Cosines are of warm users, around the mean of "
    "each set: T_s' with the T_s of the same user, and with those of others."
)


def numbers(vectors, state):
    """The rows of the table for one run.

    Args:
        vectors: of a run, {'before/warm': [n, D], ...}, see `figure2.of_users`.
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
        "MMD of histories": _mmd(warm[:half], cold[:half]),
        "MMD of warm and warm histories": _mmd(warm[:half], warm[half : 2 * half]),
        "MMD of codes": _mmd(codes_s[:half], codes_f[:half]),
        "MMD of warm and warm codes": _mmd(codes_s[:half], codes_s[half : 2 * half]),
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


def write(out, dataset, row, found, versions, command=None):
    """Writes figure2-<row>.md, .csv, .png, and a folder of the projector's files of run 0.

    Args:
        out: folder of the experiment.
        dataset: its name.
        row: the `Row` whose stage 1 it is.
        found: the vectors of each run.
        versions: of the libraries that made them, {name: version} of each run.
        command: that made it, for the reader.

    Returns:
        `table.Written`.
    """
    out = pathlib.Path(out)
    values = {state: [numbers(vectors, state) for vectors in found] for state in STATES}
    users = [len(vectors[f"{STATES[0]}/warm"]) for vectors in found]
    made = made_by(command, len(found), versions)
    text = "\n\n".join([*_parts(dataset, row, users, values), *made])
    stem = f"figure2-{row.name}"
    files = tuple(out / f"{stem}{ending}" for ending in (".md", ".csv", ".png", ""))
    markdown, table, picture, projector = files
    markdown.write_text(text + "\n")
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(_lines(values))
    _picture(picture, found[0], row.config.seed)
    write_projector(projector, _tables(found[0]))
    return Written(text, files)


def _parts(dataset, row, users, values):
    names = list(values["before"][0])
    lines = [
        [name, *(_cell([run[name] for run in runs_of_state]) for runs_of_state in values.values())]
        for name in names
    ]
    positions = row.config.model.simulated_positions(row.config.data.max_history)
    least, most = min(users), max(users)
    shown = f"{least}" if least == most else f"{least} to {most}"
    return [
        f"# {dataset}: histories around stage 1 of `{row.name}`, {len(users)} runs",
        _SAID.format(positions=positions, users=shown),
        markdown_table(["", "before stage 1", "after stage 1"], lines),
        "The plot shows run 0 by t-SNE; the folder of that name is for TensorBoard's projector.",
    ]


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
    for state in STATES:
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

"""Every row of a table on every run, one after the other; what is done is not done again."""

import dataclasses
import pathlib
import shutil
import sys
import time

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import TEST
from experiments import store, write_tables
from experiments.prepared import label, source
from experiments.table_kinds import QUALITY
from experiments.table_rows import rows
from pipeline.storage.folders import make_folder


@dataclasses.dataclass(frozen=True)
class Done:
    """What the experiment left.

    Attributes:
        text: the tables, for reading.
        files: what was written for reading.
        trained: number of models that were trained; the others were there already.
    """

    text: str
    files: tuple[pathlib.Path, ...]
    trained: int


def run(
    dataset,
    kind=QUALITY,
    *,
    data_dir=None,
    preset=None,
    config_path=None,
    runs=5,
    models=None,
    against=None,
    trials=0,
    root="var",
    out=None,
    prepared=None,
    command=None,
):
    """Trains and evaluates every row on every run, and writes the tables.

    Args:
        kind: `tables.Table`; `models` are its rows unless they are given.
        against: name of a row that every other one is told against.
        command: that asked for it, printed with the tables.
        The others are the options of `cmclrec experiment`, see `experiments/cli.py`.

    Returns:
        `Done`.

    Raises:
        InputError: a wrong dataset, model, config or folder.
    """
    kind = _asked(kind, models, against)
    datasets, name = source(dataset, data_dir, root, prepared, runs)
    chosen = rows(kind.rows, name, given(preset, config_path))
    name = label(name, chosen[0].config.data)
    out = store.results_folder(out, root, name)
    # Tuned rows keep their names, so they have a place of their own.
    out = out / f"tuned-{trials}" if trials else out
    make_folder(out, "Give another folder by --out.")
    if trials:
        chosen = _tuned(datasets, out, chosen, trials)
    left = _Progress(runs, chosen)
    for number in range(runs):
        _run(datasets, out, number, chosen, left)
    done = write_tables.write(kind, out, name, chosen, runs, command)
    return Done(done.text, done.files, left.trained)


def _asked(kind, models, against):
    """The table with the rows and the comparisons that are asked for."""
    kind = dataclasses.replace(kind, rows=tuple(models or kind.rows))
    if against is None:
        return kind
    if against not in kind.rows:
        raise InputError(
            f"--against {against}", f"it must be a row: {list(kind.rows)}", "Add it to --models."
        )
    pairs = tuple((row, against) for row in kind.rows if row != against)
    return dataclasses.replace(kind, pairs=pairs)


def given(preset, path):
    """The `Config` of --preset or --config, None without; `InputError` with both."""
    if preset and path:
        raise InputError(
            f"--preset {preset} --config {path}", "only one of them can be given", "Drop one."
        )
    return Config.from_yaml(path) if path else Config.preset(preset) if preset else None


def _tuned(datasets, out, chosen, trials):
    """The rows with their best settings, of `trials` each."""
    from experiments.tuning import tuned

    dataset, _ = drawn(datasets, 0, chosen)
    found = []
    for row in chosen:
        print(f"tuning {row.name}: {trials} trials", file=sys.stderr, flush=True)
        found.append(tuned(row, dataset, out, trials))
    return found


def drawn(datasets, number, chosen):
    """The dataset of a run, and the rows as they are trained on it."""
    from cmclrec_tf.data.prepared import PreparedDataset

    run_rows = [row.for_run(number) for row in chosen]
    longest = max(row.config.data.max_history for row in run_rows)
    data = dataclasses.replace(run_rows[0].config.data, max_history=longest)
    return PreparedDataset.load(datasets.folder(number, data)), run_rows


def _run(datasets, out, number, chosen, left):
    """One run: its dataset, then every row that is not there yet."""
    dataset, run_rows = drawn(datasets, number, chosen)
    for row in run_rows:
        folder = store.place(out, number, row.name)
        digest = store.digest(row.settings(), dataset)
        found = store.read(folder)
        if found and found["digest"] == digest:
            left.known(number, row, found["seconds"])
            continue
        left.starts(number, row)
        # A killed training goes on from here, unless any of its config or dataset was another.
        checkpoints = folder / "checkpoints"
        own = checkpoints / store.digest(row.config.to_dict(), dataset)
        resumed = own.is_dir()
        report, seconds = _train(row, dataset, folder / "logs", own)
        about = {"digest": digest, "settings": row.settings(), "resumed": resumed}
        about["tuning"] = row.tuning
        store.write(folder, report, **about, seconds=seconds)
        shutil.rmtree(checkpoints, ignore_errors=True)
        left.ends(row, seconds)


def _train(row, dataset, logs, checkpoints):
    import keras

    from cmclrec_tf.evaluation import evaluate

    keras.backend.clear_session()
    start = time.monotonic()
    model = row.train(dataset, log_dir=logs, checkpoint_dir=checkpoints)
    trained = time.monotonic() - start
    report = evaluate(model, dataset, TEST)
    return report, {"train": trained, "evaluate": time.monotonic() - start - trained}


class _Progress:
    """Says which model is next, and how long the rest may take."""

    def __init__(self, runs, chosen):
        self.trained = 0
        self._all = runs * len(chosen)
        self._done, self._seconds = 0, {row.name: [] for row in chosen}
        self._runs = runs

    def known(self, number, row, seconds):
        self._count(row, seconds)
        self._say(f"[{self._done}/{self._all}] run {number}, {row.name}: there already")

    def starts(self, number, row):
        self._say(f"[{self._done + 1}/{self._all}] run {number}, {row.name} ...{self._left()}")

    def ends(self, row, seconds):
        self.trained += 1
        self._count(row, seconds)

    def _count(self, row, seconds):
        self._done += 1
        self._seconds[row.name].append(sum(seconds.values()))

    def _left(self):
        """By the mean of each row's runs so far; a row that has none yet is not counted."""
        seconds, unknown = 0.0, 0
        for taken in self._seconds.values():
            seconds += sum(taken) / max(len(taken), 1) * (self._runs - len(taken))
            unknown += not taken
        if unknown == len(self._seconds):
            return ""
        more = f" and {unknown} models not tried yet" if unknown else ""
        return f" (about {seconds / 60:.0f} min left{more})"

    def _say(self, line):
        print(line, file=sys.stderr, flush=True)

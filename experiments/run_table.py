"""Trains and evaluates every row of a table on every run, and keeps the results.

Run r splits the users with salt r and trains with seed r. A result that exists is kept if its
settings and its dataset are the same; a change of the code is not noticed.
"""

import dataclasses
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.config import BY_USERS, Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import TEST
from experiments import run_folders, write_tables
from experiments.pages import Page
from experiments.run_datasets import Datasets, ExistingDatasets, datasets_of_runs, label
from experiments.run_folders import Folder
from experiments.table_kinds import QUALITY, Table
from experiments.table_rows import Row, parse_rows
from pipeline.storage.folders import make_folder

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.evaluation import Report


Writer: TypeAlias = Callable[[Table, Folder, str, Sequence[Row], int, str | None], Page]
"""Writes the page of a table, as `write_tables.write` does."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of an experiment.

    Attributes:
        text: the tables as Markdown.
        files: the files that were written for people.
        trained: number of models that were trained; the results of the others existed.
    """

    text: str
    files: tuple[pathlib.Path, ...]
    trained: int


def run(
    dataset: str,
    kind: Table = QUALITY,
    *,
    data_dir: Folder | None = None,
    preset: str | None = None,
    config_path: Folder | None = None,
    runs: int = 5,
    models: Sequence[str] | None = None,
    against: str | None = None,
    trials: int = 0,
    root: Folder = "var",
    out: Folder | None = None,
    prepared: str | None = None,
    command: str | None = None,
    write: Writer = write_tables.write,
) -> Outcome:
    """Trains and evaluates every row on every run, and writes the tables.

    Args:
        dataset, data_dir, preset, config_path, runs, root, out, prepared: the options of
            `cmclrec experiment`, see `experiments/cli.py`.
        kind: `table_kinds.Table`.
        models: names of the rows, instead of those of `kind`.
        against: name of a row that every other row is compared with, instead of the pairs of
            `kind`.
        trials: number of trials that tune each row first; 0 tunes nothing.
        command: the command line, printed below the tables.
        write: writes the page from the results of all rows and runs.

    Raises:
        InputError: a wrong dataset, model, config or folder.
        PrepareError: a dataset could not be prepared.
    """
    kind = _with_options(kind, models, against)
    datasets, name = datasets_of_runs(dataset, data_dir, root, prepared, runs)
    rows = parse_rows(kind.rows, name, config_from_options(preset, config_path))
    name = label(name, rows[0].config.data)
    out = run_folders.results_folder(out, root, name)
    # Tuned rows keep their names, so they need a folder of their own.
    out = out / f"tuned-{trials}" if trials else out
    make_folder(out, "Give another folder by --out.")
    check_histories(datasets, runs, rows)
    with run_folders.lock(out):
        if trials:
            rows = _tune(datasets, out, rows, trials)
        progress = _Progress(runs, rows)
        for number in range(runs):
            _run(datasets, out, number, rows, progress)
        page = write(kind, out, name, rows, runs, command)
    return Outcome(page.text, page.files, progress.trained)


def _with_options(kind: Table, models: Sequence[str] | None, against: str | None) -> Table:
    """Returns the table with the rows of --models and the comparisons of --against."""
    kind = dataclasses.replace(kind, rows=tuple(models or kind.rows))
    if against is None:
        return kind
    if against not in kind.rows:
        raise InputError(
            f"--against {against}", f"it must be a row: {list(kind.rows)}", "Add it to --models."
        )
    pairs = tuple((row, against) for row in kind.rows if row != against)
    return dataclasses.replace(kind, pairs=pairs)


def config_from_options(preset: str | None, path: Folder | None) -> Config | None:
    """Returns the config of --preset or --config, or None without either.

    Raises:
        InputError: both are given.
    """
    if preset and path:
        raise InputError(
            f"--preset {preset} --config {path}", "only one of them can be given", "Drop one."
        )
    return Config.from_yaml(path) if path else Config.preset(preset) if preset else None


def _tune(datasets: Datasets, out: Folder, rows: Sequence[Row], trials: int) -> list[Row]:
    """Returns the rows with their best settings out of `trials` each, tuned on run 0."""
    from experiments.tuning import tune

    dataset, _ = load_run(datasets, 0, rows)
    tuned_rows = []
    for row in rows:
        print(f"tuning {row.name}: {trials} trials", file=sys.stderr, flush=True)
        tuned_rows.append(tune(row, dataset, out, trials))
    return tuned_rows


def check_histories(datasets: Datasets, runs: int, rows: Sequence[Row]) -> None:
    """Checks that datasets that exist have histories as long as the configs of all rows need.

    Raises:
        InputError: one of them was prepared with shorter histories, or is no prepared dataset.
    """
    from cmclrec_tf.data.description import check_history

    if isinstance(datasets, ExistingDatasets):
        longest = max(row.config.data.max_history for row in rows)
        for number in range(runs):
            check_history(datasets.folder(number, rows[0].config.data), longest)


def load_run(
    datasets: Datasets, number: int, rows: Sequence[Row]
) -> tuple["PreparedDataset", list[Row]]:
    """Returns the dataset of a run, and the rows with the config of that run."""
    from cmclrec_tf.data.prepared import PreparedDataset

    run_rows = [row.for_run(number) for row in rows]
    # One dataset serves all rows; each cuts the histories to its own length.
    longest = max(row.config.data.max_history for row in run_rows)
    data = dataclasses.replace(run_rows[0].config.data, max_history=longest)
    return PreparedDataset.load(datasets.folder(number, data), longest), run_rows


def _run(
    datasets: Datasets, out: Folder, number: int, rows: Sequence[Row], progress: "_Progress"
) -> None:
    """Trains and evaluates every row of one run that has no result yet."""
    dataset, run_rows = load_run(datasets, number, rows)
    for row in run_rows:
        folder = run_folders.run_folder(out, number, row.name)
        digest = run_folders.digest(row.settings(), dataset)
        result = run_folders.read(folder)
        if result and result["digest"] == digest:
            progress.skip(number, row, result["seconds"])
            continue
        progress.start(number, row)
        # A killed training resumes from here, if its whole config and dataset are the same.
        checkpoints = folder / "checkpoints"
        own_checkpoints = checkpoints / run_folders.digest(row.config.to_dict(), dataset)
        resumed = own_checkpoints.is_dir()
        report, seconds = _train(row, dataset, folder / "logs", own_checkpoints)
        run_folders.write(
            folder,
            report,
            _keys(dataset, row.config),
            digest=digest,
            settings=row.settings(),
            resumed=resumed,
            tuning=row.tuning,
            seconds=seconds,
        )
        shutil.rmtree(checkpoints, ignore_errors=True)
        progress.finish(row, seconds)


def _keys(dataset: "PreparedDataset", config: Config) -> NDArray[np.int64] | None:
    """Returns the keys of the test users, or None if every run has test users of its own."""
    if config.data.split == BY_USERS:
        return None
    batches = dataset.batches(TEST, 1024).as_numpy_iterator()
    return np.concatenate([batch["user_key"] for batch in batches])


def _train(
    row: Row, dataset: "PreparedDataset", logs: pathlib.Path, checkpoints: pathlib.Path
) -> tuple["Report", dict[str, float]]:
    import keras

    from cmclrec_tf.evaluation import evaluate

    keras.backend.clear_session()
    start = time.monotonic()
    model = row.train(dataset, log_dir=logs, checkpoint_dir=checkpoints)
    trained = time.monotonic() - start
    report = evaluate(model, dataset, TEST)
    return report, {"train": trained, "evaluate": time.monotonic() - start - trained}


class _Progress:
    """Prints which model is next, and how long the rest may take."""

    def __init__(self, runs: int, rows: Sequence[Row]) -> None:
        self.trained = 0
        self._total = runs * len(rows)
        self._finished = 0
        self._seconds: dict[str, list[float]] = {row.name: [] for row in rows}
        self._runs = runs

    def skip(self, number: int, row: Row, seconds: dict[str, float]) -> None:
        self._count(row, seconds)
        self._print(f"[{self._finished}/{self._total}] run {number}, {row.name}: there already")

    def start(self, number: int, row: Row) -> None:
        position = f"[{self._finished + 1}/{self._total}]"
        self._print(f"{position} run {number}, {row.name} ...{self._remaining()}")

    def finish(self, row: Row, seconds: dict[str, float]) -> None:
        self.trained += 1
        self._count(row, seconds)

    def _count(self, row: Row, seconds: dict[str, float]) -> None:
        self._finished += 1
        self._seconds[row.name].append(sum(seconds.values()))

    def _remaining(self) -> str:
        """Estimates by the mean of each row's finished runs; rows without one are not counted."""
        seconds, unknown = 0.0, 0
        for taken in self._seconds.values():
            seconds += sum(taken) / max(len(taken), 1) * (self._runs - len(taken))
            unknown += not taken
        if unknown == len(self._seconds):
            return ""
        more = f" and {unknown} models not tried yet" if unknown else ""
        return f" (about {seconds / 60:.0f} min left{more})"

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

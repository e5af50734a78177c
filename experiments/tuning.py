"""Tunes every trained row with an equal number of trials, on the validation users of run 0."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmclrec_tf.search import tuner
from experiments import run_folders, spaces

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from experiments.table_rows import Row

RESULT = "tuned.json"


def tune(row: "Row", dataset: "PreparedDataset", out: run_folders.Folder, trials: int) -> "Row":
    """Returns the row with the settings that have the best validation NDCG.

    The first trial has the row's settings, the others have random values from `spaces.space`. Each
    trial trains like a run of the table, with early stopping. A search that has finished is not
    repeated, and a killed one resumes.

    Args:
        row: `table_rows.Row`; one that trains nothing is returned unchanged.
        dataset: `PreparedDataset` of run 0.
        out: folder of the experiment.
        trials: number of trials.
    """
    choices = spaces.space(row)
    if not choices:
        return row
    run_row = row.for_run(0)
    facts = {**run_row.settings(), "space": choices, "trials": trials}
    folder = pathlib.Path(out) / "tuning" / f"{row.name}-{run_folders.digest(facts, dataset)}"
    path = folder / RESULT
    if not path.is_file():
        result = _search(run_row, choices, dataset, folder, trials)
        run_folders.replace_text(path, json.dumps(result, indent=1))
    return row.with_tuning(json.loads(path.read_text()))


def _search(
    row: "Row",
    choices: Mapping[str, Sequence[float]],
    dataset: "PreparedDataset",
    folder: pathlib.Path,
    trials: int,
) -> dict[str, Any]:
    def score(values: dict[str, Any], checkpoints: pathlib.Path) -> float:
        changed = row.changed(values)
        return changed.validate(changed.train(dataset, checkpoint_dir=checkpoints), dataset)

    now = {name: row.setting(name) for name in choices}
    search = tuner(choices, now, score, folder, trials, row.config.seed)
    search.search()
    ranking = search.oracle.get_best_trials(trials)
    first = next(trial for trial in ranking if not int(trial.trial_id))
    return {
        "trials": len(ranking),
        "seconds": sum(trial.metrics.get_last_value("seconds") for trial in ranking),
        "values": ranking[0].hyperparameters.values,
        "val_ndcg": ranking[0].score,
        "val_ndcg_before": first.score,
    }

"""Every trained row is tuned by as many trials, on the validation users of run 0."""

import json
import pathlib

from cmclrec_tf.search import tuner
from experiments import spaces, store

FOUND = "tuned.json"


def tuned(row, dataset, out, trials):
    """The row with the settings that validate best.

    The first trial is the row as it is, the others are drawn at random from `spaces.space`. Each
    trains as a run of the table does, with early stopping. What is finished is not done again, and
    a killed trial goes on where it stopped.

    Args:
        row: `rows.Row`.
        dataset: `PreparedDataset` of run 0.
        out: folder of the experiment.
        trials: how many.

    Returns:
        The row; one that trains nothing comes back as it is.
    """
    values = spaces.space(row)
    if not values:
        return row
    own = row.for_run(0)
    about = {**own.settings(), "space": values, "trials": trials}
    folder = pathlib.Path(out) / "tuning" / f"{row.name}-{store.digest(about, dataset)}"
    path = folder / FOUND
    if not path.is_file():
        found = _search(own, values, dataset, folder, trials)
        aside = path.with_name(f".{FOUND}")
        aside.write_text(json.dumps(found, indent=1))
        aside.rename(path)
    return row.tuned(json.loads(path.read_text()))


def _search(row, values, dataset, folder, trials):
    def score(changes, checkpoints):
        changed = row.changed(changes)
        return changed.validate(changed.train(dataset, checkpoint_dir=checkpoints), dataset)

    now = {name: row.setting(name) for name in values}
    search = tuner(values, now, score, folder, trials, row.config.seed)
    search.search()
    done = search.oracle.get_best_trials(trials)
    first = next(trial for trial in done if not int(trial.trial_id))
    return {
        "trials": len(done),
        "seconds": sum(trial.metrics.get_last_value("seconds") for trial in done),
        "values": done[0].hyperparameters.values,
        "val_ndcg": done[0].score,
        "val_ndcg_before": first.score,
    }

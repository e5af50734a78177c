"""Every trained row is tuned by as many trials, on the validation users of run 0."""

import json
import pathlib
import shutil
import time

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
    import keras
    import keras_tuner

    class DefaultsFirst(keras_tuner.oracles.RandomSearchOracle):
        def populate_space(self, trial_id):
            if int(trial_id):
                return super().populate_space(trial_id)
            defaults = {p.name: p.default for p in self.get_space().space}
            return {"status": "RUNNING", "values": defaults}

    class Search(keras_tuner.Tuner):
        def run_trial(self, trial):
            keras.backend.clear_session()
            start, place = time.monotonic(), pathlib.Path(self.get_trial_dir(trial.trial_id))
            changed = row.changed(trial.hyperparameters.values)
            model = changed.train(dataset, checkpoint_dir=place / "checkpoints")
            score = changed.validate(model, dataset)
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
            return {"val_ndcg": score, "seconds": time.monotonic() - start}

    asked = keras_tuner.HyperParameters()
    for name, choices in values.items():
        now = row.setting(name)
        asked.Choice(name, sorted({*choices, now}), default=now)
    oracle = DefaultsFirst(
        objective=keras_tuner.Objective("val_ndcg", "max"),
        max_trials=trials,
        seed=row.config.seed,
        hyperparameters=asked,
        max_consecutive_failed_trials=1,
    )
    search = Search(oracle, directory=str(folder.parent), project_name=folder.name)
    oracle.verbose = 0
    search.search()
    done = oracle.get_best_trials(trials)
    first = next(trial for trial in done if not int(trial.trial_id))
    return {
        "trials": len(done),
        "seconds": sum(trial.metrics.get_last_value("seconds") for trial in done),
        "values": done[0].hyperparameters.values,
        "val_ndcg": done[0].score,
        "val_ndcg_before": first.score,
    }

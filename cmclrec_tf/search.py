"""Random search over settings, the ones at hand first, by keras-tuner."""

import pathlib
import shutil
import time

# Settings of CMCLRec that are searched, and between which values.
LEARNING = {"finetune.learning_rate": (3e-4, 1e-3, 3e-3)}
FEATURES = {"finetune.feature_dropout": (0.2, 0.4, 0.6)}
BACKBONE = {**LEARNING, "model.dropout": (0.1, 0.2, 0.4)}
SPACE = {
    **BACKBONE,
    **FEATURES,
    "finetune.cold_weight": (0.25, 0.5, 1.0),
    "finetune.cold_decay": (0.5, 0.8, 0.9),
    "finetune.distill": (0.25, 0.5, 0.75),
    "finetune.weight_decay": (0.01, 0.05, 0.2),
}
OBJECTIVE = "val_ndcg"


def tuner(choices, now, score, folder, trials, seed):
    """A `keras_tuner.Tuner`, whose `search()` runs what is left to do.

    What is finished is not done again, and a killed trial goes on where it stopped.

    Args:
        choices: `{path of a setting: values}`.
        now: `{path: value}` at hand, which the first trial takes; added to the choices.
        score: function of `{path: value}` and a folder for checkpoints; trains, and gives the
            validation NDCG.
        folder: of the search, local; its last part names it.
        trials: how many there are, the first one included.
        seed: of the draws.
    """
    import keras
    import keras_tuner

    class FirstAsNow(keras_tuner.oracles.RandomSearchOracle):
        def populate_space(self, trial_id):
            if int(trial_id):
                return super().populate_space(trial_id)
            defaults = {p.name: p.default for p in self.get_space().space}
            return {"status": "RUNNING", "values": defaults}

    class Search(keras_tuner.Tuner):
        def run_trial(self, trial):
            keras.backend.clear_session()
            start = time.monotonic()
            place = pathlib.Path(self.get_trial_dir(trial.trial_id)) / "checkpoints"
            found = score(trial.hyperparameters.values, place)
            shutil.rmtree(place, ignore_errors=True)
            return {OBJECTIVE: found, "seconds": time.monotonic() - start}

    asked = keras_tuner.HyperParameters()
    for name, values in choices.items():
        asked.Choice(name, sorted({*values, now[name]}), default=now[name])
    oracle = FirstAsNow(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        max_trials=trials,
        seed=seed,
        hyperparameters=asked,
        max_consecutive_failed_trials=1,
    )
    folder = pathlib.Path(folder)
    search = Search(oracle, directory=str(folder.parent), project_name=folder.name)
    oracle.verbose = 0
    return search

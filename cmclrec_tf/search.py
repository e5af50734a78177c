"""Random search over settings with KerasTuner; the current settings are the first trial."""

import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras_tuner

Values: TypeAlias = Mapping[str, float]

# Settings of CMCLRec that are searched, with their candidate values.
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


def tuner(
    choices: Mapping[str, Sequence[float]],
    now: Values,
    score: Callable[[dict[str, Any], pathlib.Path], float],
    folder: str | os.PathLike[str],
    trials: int,
    seed: int,
) -> "keras_tuner.Tuner":
    """Returns a `keras_tuner.Tuner`; call its `search()` to run the trials.

    A search that was stopped resumes: finished trials are kept, and the last one continues from
    its checkpoints.

    Args:
        choices: candidate values by path of the setting, such as `finetune.ema`.
        now: current values by path. The first trial uses them, and they become candidates.
        score: trains with the given values, writes checkpoints to the given folder, and returns
            the validation NDCG.
        folder: local folder of the search; its last part is the name of the search.
        trials: number of trials, including the first one.
        seed: seeds the choice of values.
    """
    import keras
    import keras_tuner

    class CurrentValuesFirst(keras_tuner.oracles.RandomSearchOracle):
        def populate_space(self, trial_id: str) -> dict[str, Any]:
            if int(trial_id):
                space: dict[str, Any] = super().populate_space(trial_id)
                return space
            defaults = {p.name: p.default for p in self.get_space().space}
            return {"status": "RUNNING", "values": defaults}

    class Search(keras_tuner.Tuner):
        def run_trial(self, trial: "keras_tuner.engine.trial.Trial") -> dict[str, float]:
            keras.backend.clear_session()
            start = time.monotonic()
            checkpoints = pathlib.Path(self.get_trial_dir(trial.trial_id)) / "checkpoints"
            ndcg = score(trial.hyperparameters.values, checkpoints)
            shutil.rmtree(checkpoints, ignore_errors=True)
            return {OBJECTIVE: ndcg, "seconds": time.monotonic() - start}

    hyperparameters = keras_tuner.HyperParameters()
    for name, values in choices.items():
        hyperparameters.Choice(name, sorted({*values, now[name]}), default=now[name])
    oracle = CurrentValuesFirst(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        max_trials=trials,
        seed=seed,
        hyperparameters=hyperparameters,
        max_consecutive_failed_trials=1,
    )
    folder = pathlib.Path(folder)
    search = Search(oracle, directory=str(folder.parent), project_name=folder.name)
    oracle.verbose = 0
    return search

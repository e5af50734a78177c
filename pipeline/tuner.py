"""What the Tuner component calls: settings that validate better than those at hand."""

import functools
import json
import os
import pathlib

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult
from tfx.utils import io_utils

from cmclrec_tf import search
from cmclrec_tf.training import train, validate
from pipeline import trainer

TUNER_FN = "pipeline.tuner.tuner_fn"
TRIALS = "trials"


def tuner_fn(fn_args: FnArgs):
    """A search over `search.SPACE` on the validation users; its first trial is the config at hand.

    Args:
        fn_args: as of `trainer.run_fn`; `custom_config` also holds `trials`.

    Returns:
        `TunerFnResult` of a tuner that goes on where a killed one stopped, if the pipeline root is
        a local folder.
    """
    config, dataset = trainer.inputs(fn_args)
    custom = dict(fn_args.custom_config)
    trials = custom.pop(TRIALS)
    folder = trainer.checkpoint_folder(custom, dataset, "tuning")
    folder = folder or pathlib.Path(fn_args.working_dir) / "tuning"

    def score(changes, checkpoints):
        changed = config.changed(changes)
        model = train(dataset, changed, checkpoint_dir=checkpoints)
        return validate(model, dataset, changed)["ndcg"]

    now = {path: functools.reduce(getattr, path.split("."), config) for path in search.SPACE}
    found = search.tuner(search.SPACE, now, score, folder, trials, config.seed)
    return TunerFnResult(tuner=found, fit_kwargs={})


def chosen(best_hyperparameters):
    """`{path of a setting: value}` that a Tuner chose.

    Args:
        best_hyperparameters: folder of its artifact of this name.
    """
    path = os.path.join(best_hyperparameters, "best_hyperparameters.txt")
    return json.loads(io_utils.read_string_file(path))["values"]

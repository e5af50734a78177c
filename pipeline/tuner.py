"""Searches for better settings for the Tuner component."""

import importlib
import pathlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from cmclrec_tf import search
from cmclrec_tf.training import train, validate
from pipeline import trainer
from pipeline.metadata.fingerprint import checkpoint_folder

TUNER_FN = "pipeline.tuner.tuner_fn"
TRIALS = "trials"
MODULE = "run_fn_module"


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Returns a search over `search.SPACE` for the best NDCG of the validation users.

    The first trial is the config of the run, so that the search never ends with a worse one. If the
    pipeline root is a local folder, a search that was killed continues where it stopped.

    Args:
        fn_args: the arguments from TFX, see `trainer.run_fn`. `custom_config` also holds `trials`,
            and in `run_fn_module` the module of the run_fn, which may register a backbone.
    """
    settings = dict(fn_args.custom_config)
    trials = settings.pop(TRIALS)
    importlib.import_module(settings.pop(MODULE))
    config, dataset = trainer.inputs(fn_args)
    folder = checkpoint_folder(settings, dataset, "tuning")
    folder = folder or pathlib.Path(fn_args.working_dir) / "tuning"

    def score(changes: Mapping[str, Any], checkpoints: pathlib.Path) -> float:
        changed = config.changed(changes)
        with trainer.progress(settings):
            model = train(dataset, changed, checkpoint_dir=checkpoints)
        return validate(model, dataset, changed)["ndcg"]

    first = {path: attrgetter(path)(config) for path in search.SPACE}
    tuner = search.tuner(search.SPACE, first, score, folder, trials, config.seed)
    return TunerFnResult(tuner=tuner, fit_kwargs={})

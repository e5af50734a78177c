"""Trains the baselines of other papers by the same fit as CMCLRec."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from cmclrec_tf import baselines
from cmclrec_tf.baselines.base import check_precision
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.fitting import NDCG, Folder, Stage, fit_stage, users_of
from cmclrec_tf.models.staged import dtype_policy
from cmclrec_tf.training import averaged_adam, checked

if TYPE_CHECKING:
    from cmclrec_tf.baselines.base import Baseline
    from cmclrec_tf.data.prepared import PreparedDataset


def train_baseline(
    name: str,
    dataset: "PreparedDataset",
    config: Config | None = None,
    log_dir: Folder | None = None,
    checkpoint_dir: Folder | None = None,
) -> "Baseline":
    """Fits a baseline of another paper, with the settings of `finetune` and `baseline`.

    The weights of the best validation NDCG over both segments are kept. It runs on one replica.

    Args:
        name: one of `baselines.names()`.
        dataset, config, log_dir, checkpoint_dir: see `cmclrec_tf.train`.

    Returns:
        The trained `Baseline`.

    Raises:
        InputError: as in `cmclrec_tf.train`; or a strategy with several replicas, or mixed
            precision, is in effect.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> config = cm.Config.preset("tiny").changed({"data.max_history": 6, "finetune.epochs": 1})
        >>> type(train_baseline("clcrec", toy_dataset(), config)).__name__
        'CLCRec'
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InputError(
            f"baseline {name!r}",
            "its losses are those of one replica",
            "Train it outside of the strategy's scope.",
        )
    config, dataset = checked(dataset, config)
    keras.utils.set_random_seed(config.seed)
    with dtype_policy(config.compute.precision):
        check_precision(name)
        model = baselines.create(name, dataset.schema, config)
    model.prepare(users_of(dataset, config.finetune, config.seed))
    stage = Stage(name, "finetune", averaged_adam, monitor=NDCG)
    fit_stage(model, dataset, config, stage, log_dir, checkpoint_dir)
    return model

"""Defines the settings of the two-tower row, and checks that its libraries are there."""

import dataclasses
import importlib.util

from cmclrec_tf.config import checks
from cmclrec_tf.errors import InputError

# Files that the two processes exchange.
SETTINGS, DATA, PARAMETERS = "settings.json", "data.npz", "parameters.npz"
LIBRARIES = ("tensorflow_recommenders", "tf_keras")


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig:
    """Shape and training of the two towers.

    Attributes:
        events: `all` trains on every event of a user's record, `last` on the last one.
        width: D, the width of item embeddings and of the query.
        feature_width: width of the embedding of a user feature.
        hidden: width of the hidden layer of the query tower.
        history_dropout: probability that a pair is trained without its history, in [0, 1), so that
            the tower can serve users without one.
        dropout: dropout rate of the hidden layer.
        learning_rate: learning rate of Adam.
        batch_size: pairs per step; each is a negative of all others.
        epochs: maximum number of epochs.
        epoch_steps: minimum number of batches in an epoch; few pairs are repeated.
        patience: epochs without a better validation NDCG@k before training stops.
        k: the K of this NDCG.
        max_history: L, the number of newest items that the query tower reads.
        seed: seeds weights, shuffling and dropout.
        hides_history: whether items of a warm user's history are left out of the lists.
    """

    events: str = "all"
    width: int = 64
    feature_width: int = 16
    hidden: int = 128
    history_dropout: float = 0.5
    dropout: float = 0.2
    learning_rate: float = 1e-3
    batch_size: int = 1024
    epochs: int = 60
    epoch_steps: int = 100
    patience: int = 5
    k: int = 20
    max_history: int = 50
    seed: int = 0
    hides_history: bool = True

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.one_of(self, "events", ("all", "last"))
        checks.positive(self, "width", "feature_width", "hidden", "learning_rate", "batch_size")
        checks.positive(self, "epochs", "epoch_steps", "patience", "k", "max_history")
        checks.at_most(self, 2**16, "width", "feature_width", "hidden", "batch_size")
        checks.not_negative(self, "seed")
        checks.share(self, "history_dropout", "dropout")


def check_installed() -> None:
    """Checks that TensorFlow Recommenders can be imported.

    Raises:
        InputError: a package is missing.
    """
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"package {name}",
                "the row two-tower needs it",
                "Install the extra cmclrec-tf[experiments], or name the other rows by --models.",
            )

"""Times the epochs of RecTools' SASRec, with RecTools' own dataset, loader and trainer.

Its loss is the full softmax at every position. It runs in an environment of its own (see
`make bench`) and imports nothing of this project. benchmarks/peers.py calls it.
"""

import argparse
import json
import logging
import pathlib
import time
import warnings

import numpy as np
import pandas as pd
import pytorch_lightning
import rectools
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.net_blocks import PreLNTransformerLayers


class Clock(pytorch_lightning.Callback):
    """Keeps the seconds and the loss of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_train_epoch_start(self, trainer, module) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer, module) -> None:
        self.seconds.append(time.perf_counter() - self.start)
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


def new_trainer(epochs: int) -> pytorch_lightning.Trainer:
    """Returns a trainer on the CPU that writes no files."""
    return pytorch_lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Folder of histories.npy, [users, L + 1].")
    parser.add_argument("settings", help="Arguments of SASRecModel as JSON.")
    parser.add_argument("--epochs", type=int, default=4, help="Number of epochs.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rows = np.load(pathlib.Path(arguments.folder) / "histories.npy")
    users, events = rows.shape
    log = {
        Columns.User: np.repeat(np.arange(users), events),
        Columns.Item: rows.reshape(-1),
        Columns.Weight: 1.0,
        Columns.Datetime: np.tile(pd.date_range("2020-01-01", periods=events), users),
    }
    pytorch_lightning.seed_everything(0)
    model = SASRecModel(
        loss="softmax",
        transformer_layers_type=PreLNTransformerLayers,
        get_trainer_func=new_trainer,
        get_trainer_func_kwargs={"epochs": arguments.epochs},
        **json.loads(arguments.settings),
    )
    model.fit(Dataset.construct(pd.DataFrame(log)))
    (clock,) = (each for each in model.fit_trainer.callbacks if isinstance(each, Clock))
    weights = list(model.torch_model.parameters())
    figures = {
        "seconds": clock.seconds,
        "users": users,
        "version": rectools.__version__,
        "threads": torch.get_num_threads(),
        "parameters": sum(weight.numel() for weight in weights),
        "first_loss": clock.losses[0],
        "last_loss": clock.losses[-1],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

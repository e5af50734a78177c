"""Times the epochs of RecBole's SASRec on full histories, with RecBole's loader and trainer.

It runs in an environment of its own (see `make bench`) and imports nothing of this project.
benchmarks/peers.py calls it.
"""

import argparse
import json
import time

import numpy as np
import torch

# RecBole 1.2.1 uses NumPy names that NumPy 2 has removed.
for name, kind in (("bool8", np.bool_), ("float_", np.float64), ("complex_", np.complex128)):
    if not hasattr(np, name):
        setattr(np, name, kind)

import recbole  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Folder of benchmark/benchmark.{train,valid,test}.inter.")
    parser.add_argument("settings", help="RecBole's settings as JSON.")
    parser.add_argument("--epochs", type=int, default=4, help="Number of epochs.")
    arguments = parser.parse_args()
    settings = {
        "data_path": arguments.folder,
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "use_gpu": False,
        "state": "ERROR",
        "show_progress": False,
        **json.loads(arguments.settings),
    }
    config = Config(model="SASRec", dataset="benchmark", config_dict=settings)
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model("SASRec")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    seconds, losses = [], []
    for epoch in range(arguments.epochs):
        start = time.perf_counter()
        # RecBole 1.2.1 has no public method for one epoch without validation.
        losses.append(trainer._train_epoch(train, epoch) / len(train))
        seconds.append(time.perf_counter() - start)
    figures = {
        "seconds": seconds,
        "users": len(train.dataset),
        "version": recbole.__version__,
        "threads": torch.get_num_threads(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

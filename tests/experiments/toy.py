"""A dataset of a few users for each run of an experiment, and settings to train on it."""

import numpy as np
import yaml
from click.testing import CliRunner

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.schema import Feature
from experiments.cli import experiment

# Settings that train in a second.
CONFIG = {
    "data": {"max_history": 6},
    "model": {"width": 8, "latent": 4, "blocks": 1, "heads": 1},
    "pretrain": {"epochs": 1, "epoch_steps": 1, "batch_size": 64},
    "finetune": {"epochs": 1, "epoch_steps": 1, "batch_size": 64, "learning_rate": 0.01},
    "baseline": {"hidden": 8, "sweeps": 1, "negatives": 16, "graph_users": 64},
}


def prepare(folder, run, target="all"):
    """Writes the dataset of run number `run`: 12 warm and 14 cold test users.

    Args:
        folder: folder of the dataset.
        run: number of the run.
        target: what cold users keep of their removed items: `all`, or only the `last` one.
    """
    rng = np.random.default_rng(run)
    test = _users("w", 12, rng) + _users("c", 14, rng, cold=True)
    if target == "last":
        test = [{**user, "target": user["target"][-1:]} for user in test]
    splits = {"train": _users("t", 128, rng), "val": _users("v", 24, rng), "test": test}
    prepare_tables(splits, [Feature("group")], folder, 6, "toy")


def prepare_runs(folder, runs):
    """Writes the datasets of some runs and `config.yaml` into a folder, and returns it."""
    for run in range(runs):
        prepare(folder / f"salt{run}", run)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def table_output(folder, runs, *more, table="quality"):
    """Returns the output of a table command on the datasets of a folder.

    Args:
        folder: from `prepare_runs`; the results are in its `out`.
        runs: number of runs.
        more: further arguments.
        table: name of the command.
    """
    options = {
        "--dataset": "toy",
        "--prepared": folder / "salt{run}",
        "--config": folder / "config.yaml",
        "--runs": runs,
        "--out": folder / "out",
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    result = CliRunner().invoke(experiment, [table, *arguments, *more])
    if result.exception:
        raise result.exception
    return result.output


def _users(prefix, n, rng, cold=False):
    """Returns users of three groups who take items of their group's thirty."""
    users = []
    for number in range(n):
        group = int(rng.integers(3))
        taken = [f"i{group * 30 + item}" for item in rng.choice(30, rng.integers(5, 9), False)]
        users.append(
            {
                "user_id": f"{prefix}{number}",
                "history": [] if cold else taken[:-1],
                # Cold users keep all removed items as target, the last item last.
                "target": taken if cold else taken[-1:],
                "segment": "cold" if cold else "warm",
                "group": f"g{group}",
            }
        )
    return users

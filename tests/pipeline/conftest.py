"""Runs the whole pipeline once on a small dataset, for the tests that look at its results."""

import dataclasses
import pathlib

import pytest
from click.testing import CliRunner

from cmclrec_tf.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)

# One list for all users would cover 5 items; a model that learns the clusters covers more.
CONFIG = Config(
    data=DataConfig(max_history=10),
    model=ModelConfig(width=16, latent=16, blocks=1, heads=1, dropout=0.1),
    pretrain=PretrainConfig(epochs=3, epoch_steps=1, batch_size=32),
    finetune=FinetuneConfig(epochs=12, epoch_steps=1, ema=0.0, batch_size=32, patience=12),
    evaluate=EvaluateConfig(
        k=5, ks=(5, 10), min_warm_ndcg=0.05, min_cold_ndcg=0.05, min_cold_coverage=8
    ),
    serve=ServeConfig(list_length=20),
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The files, folders and config of the small runs."""

    spec: pathlib.Path
    data_dir: pathlib.Path
    root: pathlib.Path
    config: Config = CONFIG

    def run(self, **changes):
        from pipeline.commands.run import run_pipeline
        from pipeline.datasets import load_spec

        spec = load_spec(self.spec)
        return run_pipeline(spec, self.data_dir, self.config, self.root, **changes)

    def invoke(self, command, *more):
        """Invokes a command on this setting and returns its result, which holds an error too."""
        config = self.root.parent / "config.yaml"
        config.write_text(self.config.to_yaml())
        arguments = {
            "--dataset": self.spec,
            "--data-dir": self.data_dir,
            "--config": config,
            "--root": self.root,
        }
        words = [str(part) for pair in arguments.items() for part in pair]
        return CliRunner().invoke(command, [*words, *more])


@pytest.fixture(scope="session")
def setting(tmp_path_factory):
    from tests.pipeline.toy_datasets import cold_users, write_clusters

    folder = tmp_path_factory.mktemp("clusters")
    spec = write_clusters(folder / "raw")
    with open(folder / "raw" / "interactions.csv", "a") as file:
        # Each cold user starts with an item that no other user has.
        file.writelines(f"{user},planted-{user},-1\n" for user in cold_users(CONFIG.data))
    return Setting(spec, folder / "raw", folder / "var")


@pytest.fixture(scope="session")
def first_run(setting):
    return setting.run()

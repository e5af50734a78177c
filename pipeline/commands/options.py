"""Options that the commands over a dataset share, and what they stand for."""

import functools

import click

from cmclrec_tf.errors import InputError
from pipeline import configs

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    help="Folder that holds the raw files; without it they are fetched and cached.",
)


def run_options(command):
    """Adds what every command over a dataset's files takes."""
    options = [
        data_dir_option,
        click.option(
            "--preset", help=f"A preset's name; {configs.PRESET} when no config is given."
        ),
        click.option("--config", "config_path", type=click.Path(), help="A config in YAML."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


root_option = click.option(
    "--root",
    type=click.Path(),
    default=configs.ROOT,
    show_default=True,
    help="Folder for artifacts, metadata, logs and pushed models.",
)

dataset_option = click.option(
    "--dataset",
    default=configs.DATASET,
    show_default=True,
    help="A dataset's name, or the path of a spec in YAML.",
)


tune_option = click.option(
    "--tune",
    "trials",
    type=click.IntRange(min=0),
    default=0,
    help="Trials of a search for settings that validate better, before training; 0 is none.",
)


def given_config(preset, path):
    """The `Config` of --preset or --config.

    Raises:
        InputError: both are given, or a wrong one.
    """
    from cmclrec_tf.config import Config

    if preset and path:
        raise InputError(
            f"--preset {preset} --config {path}", "only one of them can be given", "Drop one."
        )
    return Config.from_yaml(path) if path else Config.preset(preset or configs.PRESET)


def given_inputs(dataset, data_dir, preset, config_path):
    """The `DatasetSpec`, the folder of its files and the `Config` of a whole pipeline.

    Raises:
        InputError: whatever is wrong with them, before TFX is loaded.
    """
    config = given_config(preset, config_path)
    if config.data.split != "users":
        raise InputError(
            f"data.split={config.data.split!r}",
            "the gate judges cold users, and only the split by users has some",
            "Use `cmclrec prepare` or `cmclrec experiment quality` for this split.",
        )
    return *given_data(dataset, data_dir), config


def given_data(dataset, data_dir):
    """The `DatasetSpec` and the folder of its files, fetched if need be and checked.

    Raises:
        InputError: whatever is wrong with them, before TFX is loaded.
    """
    from pipeline.datasets import check, fetch, load_spec

    spec = load_spec(dataset)
    data_dir = fetch(spec, data_dir)
    check(spec, data_dir)
    return spec, data_dir

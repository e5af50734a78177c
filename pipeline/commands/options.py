"""Defines the options that several commands share, and reads what they stand for."""

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cmclrec_tf.errors import InputError
from pipeline import configs

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from pipeline.datasets import DatasetSpec
    from pipeline.storage.folders import AnyPath

_Function = TypeVar("_Function", bound=Callable[..., Any])

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    help="Folder of the raw files. By default they are downloaded and cached.",
)


def run_options(command: _Function) -> _Function:
    """Adds the options of the raw files and the config to a command."""
    options = [
        data_dir_option,
        click.option(
            "--preset",
            help=f"Name of a preset; {configs.PRESET!r} if there is no --config either.",
        ),
        click.option(
            "--config", "config_path", type=click.Path(), help="Path of a config in YAML."
        ),
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
    help="Name of a dataset, or path of a dataset spec in YAML.",
)


tune_option = click.option(
    "--tune",
    "trials",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of trials of a search for better settings before training; 0 does not search.",
)

force_push_option = click.option(
    "--force-push",
    is_flag=True,
    help="Push although the newest version in the model base path is of another dataset.",
)


def load_config(preset: str | None, path: str | None) -> "Config":
    """Returns the config of --preset or --config.

    Raises:
        InputError: both are given, or one of them is wrong.
    """
    from cmclrec_tf.config import Config

    if preset and path:
        raise InputError(
            f"--preset {preset} --config {path}", "only one of them can be given", "Drop one."
        )
    return Config.from_yaml(path) if path else Config.preset(preset or configs.PRESET)


def load_inputs(
    dataset: str, data_dir: str | None, preset: str | None, config_path: str | None
) -> "tuple[DatasetSpec, AnyPath, Config]":
    """Returns the spec, the folder of the raw files and the config for a whole pipeline.

    Everything is checked here, before TFX takes half a minute to load.

    Raises:
        InputError: one of them is wrong.
    """
    config = load_config(preset, config_path)
    if not config.data.has_cold_users:
        raise InputError(
            f"data.split={config.data.split!r}",
            "the gate judges cold users, and this split has none",
            "Use `cmclrec prepare` or `cmclrec experiment quality` for this split.",
        )
    return *load_data(dataset, data_dir, config), config


def load_data(
    dataset: str, data_dir: str | None, config: "Config | None" = None
) -> "tuple[DatasetSpec, AnyPath]":
    """Returns the spec and the folder of the raw files, which are downloaded if need be.

    Args:
        dataset: name of a dataset, or path of its spec.
        data_dir: folder of the raw files; None downloads them.
        config: the config, of which `data.split_time` is checked; None checks nothing.

    Raises:
        InputError: one of them is wrong.
    """
    from pipeline.datasets import check, fetch, load_spec

    spec = load_spec(dataset)
    folder = fetch(spec, data_dir)
    check(spec, folder, config.data if config else None)
    return spec, folder


def import_run_fn(run_fn: str) -> None:
    """Imports the module of the function that trains.

    Raises:
        InputError: `run_fn` is no import path of a function, or its module cannot be imported.
    """
    module, _, name = run_fn.rpartition(".")
    bad_path = InputError(run_fn, "it must be the import path of a function", "Correct the path.")
    if not all(part.isidentifier() for part in run_fn.split(".")) or not module:
        raise bad_path
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        # If the module exists and imports another one that does not, the path is right.
        if missing and f"{module}.".startswith(f"{missing}."):
            raise bad_path from error
        rule = f"its module must be importable, and raised {type(error).__name__}: {error}"
        raise InputError(run_fn, rule, "Correct the module.") from error
    if not callable(getattr(loaded, name, None)):
        raise bad_path

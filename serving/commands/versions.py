"""Implements `cmclrec versions`: lists, rolls back, restores, labels and prunes versions."""

import datetime
import json
import pathlib
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import whole_file
from cmclrec_tf.processes.writing import writing
from serving import versions as folders
from serving.contract import MODEL_BASE_PATH, MODEL_NAME
from serving.export import origin

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

# Versions from here on are the time of their push, in seconds since 1970.
_FIRST_TIME = 10**9

_base_path_option = click.option(
    "--model-base-path",
    type=click.Path(),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Folder that holds the versions.",
)


def _config_option(required: bool) -> Callable[..., Any]:
    return click.option(
        "--model-config-file",
        type=click.Path(),
        required=required,
        help="The server's models.config file, which holds the labels.",
    )


_model_option = click.option(
    "--model-name",
    default=MODEL_NAME,
    show_default=True,
    help="Name of the model in the models.config file.",
)


@click.group()
def versions() -> None:
    """List, roll back, restore, label and prune the versions of a model.

    A server that watches the folder follows each change.
    """


@versions.command("list")
@_base_path_option
def list_versions(model_base_path: str) -> None:
    """Print the versions, newest first: state, dataset, config and time of the push."""
    complete = folders.available(model_base_path)
    newest = max(complete, default=None)
    for version in sorted(complete, reverse=True):
        _echo_version(version, complete[version], "newest" if version == newest else "")
    aside = folders.rolled_back(model_base_path)
    for version in sorted(aside, reverse=True):
        _echo_version(version, aside[version], "rolled back")


def _echo_version(version: int, folder: pathlib.Path, state: str) -> None:
    facts = [str(version), state, str(origin.read(folder) or "")]
    if version >= _FIRST_TIME:
        pushed = datetime.datetime.fromtimestamp(version, datetime.timezone.utc)
        facts.append(f"pushed {pushed:%Y-%m-%d %H:%M} UTC")
    click.echo("  ".join(filter(None, facts)))


@versions.command()
@click.argument("version", type=int)
@_base_path_option
def show(version: int, model_base_path: str) -> None:
    """Print which dataset and config a version came from, as JSON."""
    known = {**folders.rolled_back(model_base_path), **folders.available(model_base_path)}
    if version not in known:
        raise InputError(f"version {version}", f"there are {sorted(known)}", "Choose one of them.")
    source = origin.read(known[version])
    if source is None:
        raise InputError(
            known[version] / origin.FILE,
            "the version must hold this file to say where it came from",
            "Push the model again.",
        )
    click.echo(json.dumps(source.values, indent=2, sort_keys=True))


@versions.command()
@click.option("--to", type=int, help="Version to go back to; by default the one before the newest.")
@_base_path_option
def rollback(to: int | None, model_base_path: str) -> None:
    """Serve an earlier version again: moves all newer versions aside.

    \b
    cmclrec versions rollback
    cmclrec versions rollback --to 1795688615
    """
    newest, moved = folders.roll_back(model_base_path, to)
    click.echo(f"Version {newest} is the newest now.")
    where = f" --model-base-path {shlex.quote(str(model_base_path))}"
    for version in moved:
        undo = f"cmclrec versions restore {version}{where}"
        click.echo(f"Moved aside: {version}; undo with `{undo}`.")


@versions.command()
@click.argument("version", type=int)
@_base_path_option
def restore(version: int, model_base_path: str) -> None:
    """Bring back a version that was rolled back."""
    folders.restore(model_base_path, version)
    click.echo(f"Version {version} is back; the newest is {folders.latest(model_base_path)[0]}.")


@versions.command()
@click.option(
    "--keep", type=click.IntRange(min=1), required=True, help="Number of newest versions to keep."
)
@_base_path_option
@_config_option(required=False)
@_model_option
def prune(keep: int, model_base_path: str, model_config_file: str | None, model_name: str) -> None:
    """Remove old versions, except those that models.config labels or names by number."""
    protected: set[int] = set()
    if model_config_file:
        _, model = _read(model_config_file, model_name)
        protected |= set(model.version_labels.values())
        protected |= set(model.model_version_policy.specific.versions)
    removed = folders.prune(model_base_path, keep, protected)
    click.echo(f"Removed: {', '.join(map(str, removed)) or 'none'}.")


@versions.command()
@click.argument("name")
@click.argument("version", type=int)
@_base_path_option
@_config_option(required=True)
@_model_option
def label(
    name: str, version: int, model_base_path: str, model_config_file: str, model_name: str
) -> None:
    """Point a label, such as stable or canary, at a version.

    \b
    cmclrec versions label canary 1795688615 --model-config-file models.config
    """
    complete = folders.available(model_base_path)
    if version not in complete:
        raise InputError(
            f"version {version}", f"a label names one of {sorted(complete)}", "Choose one of them."
        )
    config, model = _read(model_config_file, model_name)
    model.version_labels[name] = version
    _write(model_config_file, config)
    click.echo(f"Label {name} of {model_name} is version {version}.")


@versions.command()
@click.argument("name")
@_config_option(required=True)
@_model_option
def unlabel(name: str, model_config_file: str, model_name: str) -> None:
    """Remove a label."""
    config, model = _read(model_config_file, model_name)
    if name not in model.version_labels:
        raise InputError(
            f"label {name!r}", f"there are {sorted(model.version_labels)}", "Choose one of them."
        )
    del model.version_labels[name]
    _write(model_config_file, config)
    click.echo(f"Label {name} of {model_name} is removed.")


def _read(path: str, model_name: str) -> tuple["ModelServerConfig", "ModelConfig"]:
    """Returns the ModelServerConfig in a file and its entry for one model."""
    from serving.server import text_protos

    config = text_protos.model_server_config(path)
    for model in config.model_config_list.config:
        if model.name == model_name:
            return config, model
    raise InputError(
        f"model {model_name!r}", f"{path} must name it", "Correct --model-name or the file."
    )


def _write(path: str, config: "ModelServerConfig") -> None:
    """Replaces the file in one step, since a server may be reading it. Comments are lost."""
    from google.protobuf import text_format

    target = pathlib.Path(path)
    with writing(target), whole_file(target) as copy:
        copy.write_text(text_format.MessageToString(config))
        copy.chmod(target.stat().st_mode & 0o777)

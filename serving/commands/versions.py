"""`cmclrec versions`: which versions there are, back to an earlier one, labels, retention."""

import os
import pathlib
import shlex
import tempfile

import click

from cmclrec_tf.errors import InputError
from serving import versions as folders
from serving.contract import MODEL_BASE_PATH, MODEL_NAME

_base = click.option(
    "--model_base_path",
    type=click.Path(),
    default=MODEL_BASE_PATH,
    show_default=True,
    help="Folder that holds the versions.",
)


def _config(required):
    return click.option(
        "--model_config_file",
        type=click.Path(),
        required=required,
        help="models.config with the labels, as the server reads it.",
    )


_model = click.option("--model_name", default=MODEL_NAME, show_default=True)


@click.group()
def versions() -> None:
    """See, roll back, restore, label and remove versions; a server that watches follows."""


@versions.command("list")
@_base
def list_versions(model_base_path) -> None:
    """Print the versions, newest first."""
    complete = folders.available(model_base_path)
    newest = max(complete, default=None)
    for version in sorted(complete, reverse=True):
        click.echo(f"{version}{'  newest' if version == newest else ''}")
    for version in sorted(folders.rolled_back(model_base_path), reverse=True):
        click.echo(f"{version}  rolled back")


@versions.command()
@click.option("--to", type=int, help="The version wanted; the one before the newest by default.")
@_base
def rollback(to, model_base_path) -> None:
    """Serve an earlier version: the ones above it are moved aside.

    \b
    cmclrec versions rollback
    cmclrec versions rollback --to 1795688615
    """
    wanted, moved = folders.roll_back(model_base_path, to)
    click.echo(f"Version {wanted} is the newest now.")
    where = f" --model_base_path {shlex.quote(str(model_base_path))}"
    for version in moved:
        undo = f"cmclrec versions restore {version}{where}"
        click.echo(f"Moved aside: {version}; undo with `{undo}`.")


@versions.command()
@click.argument("version", type=int)
@_base
def restore(version, model_base_path) -> None:
    """Take a version back that was rolled back."""
    folders.restore(model_base_path, version)
    click.echo(f"Version {version} is back; the newest is {folders.latest(model_base_path)[0]}.")


@versions.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Newest ones that stay.")
@_base
@_config(required=False)
@_model
def prune(keep, model_base_path, model_config_file, model_name) -> None:
    """Remove old versions, but those that models.config labels or asks for by number."""
    protected = set()
    if model_config_file:
        _, model = _read(model_config_file, model_name)
        protected |= set(model.version_labels.values())
        protected |= set(model.model_version_policy.specific.versions)
    removed = folders.prune(model_base_path, keep, protected)
    click.echo(f"Removed: {', '.join(map(str, removed)) or 'none'}.")


@versions.command()
@click.argument("name")
@click.argument("version", type=int)
@_base
@_config(required=True)
@_model
def label(name, version, model_base_path, model_config_file, model_name) -> None:
    """Point a label, such as stable or canary, at a version.

    \b
    cmclrec versions label canary 1795688615 --model_config_file models.config
    """
    found = folders.available(model_base_path)
    if version not in found:
        raise InputError(
            f"version {version}", f"a label names one of {sorted(found)}", "Choose one of them."
        )
    config, model = _read(model_config_file, model_name)
    model.version_labels[name] = version
    _write(model_config_file, config)
    click.echo(f"Label {name} of {model_name} is version {version}.")


@versions.command()
@click.argument("name")
@_config(required=True)
@_model
def unlabel(name, model_config_file, model_name) -> None:
    """Remove a label."""
    config, model = _read(model_config_file, model_name)
    if name not in model.version_labels:
        raise InputError(
            f"label {name!r}", f"there are {sorted(model.version_labels)}", "Choose one of them."
        )
    del model.version_labels[name]
    _write(model_config_file, config)
    click.echo(f"Label {name} of {model_name} is gone.")


def _read(path, model_name):
    """The ModelServerConfig of a file, and the part of one model."""
    from serving.server import text_protos

    config = text_protos.model_server_config(path)
    for model in config.model_config_list.config:
        if model.name == model_name:
            return config, model
    raise InputError(
        f"model {model_name!r}", f"{path} must name it", "Correct --model_name or the file."
    )


def _write(path, config):
    """Replaces the file at once: a server may be reading it. Comments are lost."""
    from google.protobuf import text_format

    path = pathlib.Path(path)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text_format.MessageToString(config))
    os.chmod(aside, path.stat().st_mode & 0o777)
    os.replace(aside, path)

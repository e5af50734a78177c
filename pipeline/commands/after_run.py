"""Defines the commands for results of a run: `cmclrec pipeline status, lineage, lists, clean`."""

import pathlib
import shutil
from typing import TYPE_CHECKING

import click

from cmclrec_tf.processes import locks
from pipeline import configs
from pipeline.commands.options import data_dir_option, dataset_option, load_data, root_option

if TYPE_CHECKING:
    from pipeline.metadata.lineage import Lineage


@click.command()
@dataset_option
@root_option
def status(dataset: str, root: str) -> None:
    """Show the newest execution of each component.

    A line holds the start time, the component, its state, how long it took and the folders of its
    results. The state `killed` is that of a component whose process was killed. A last line says
    which process runs the pipeline, if one does.
    """
    holder = locks.holder(_folders(dataset, root).lock)
    summaries: list[str] = []
    for step in _lineage(dataset, root).latest_steps():
        folders = ", ".join(folder for group in step.outputs.values() for folder in group)
        state = "killed" if step.state == "running" and not holder else step.state
        click.echo(
            f"{step.started:%Y-%m-%d %H:%M:%S}  {step.component:<17} {state:<9} "
            f"{step.seconds:7.1f} s  {folders}"
        )
        paths = [pathlib.Path(folder, configs.SUMMARY) for folder in step.outputs.get("card", ())]
        summaries += [path.read_text("utf-8") for path in paths if path.is_file()]
    if holder:
        click.echo(f"{holder} runs the pipeline")
    for text in summaries:
        click.echo(f"\n{text}", nl=False)


@click.command()
@click.argument("version", type=click.Path(exists=True, file_okay=False))
@dataset_option
@root_option
def lineage(version: str, dataset: str, root: str) -> None:
    """Show what a pushed model was made from, back to the raw files.

    VERSION is the folder of the pushed model. For each component on the way the command prints the
    raw files, the settings that are not the defaults and the folders of the results.
    """
    from pipeline.metadata.settings import changed_settings

    for step in _lineage(dataset, root).origins(version):
        click.echo(f"{step.component}  {step.state} {step.started:%Y-%m-%d %H:%M:%S}")
        for name, (size, changed) in step.files.items():
            click.echo(f"  file {name}: {size} bytes, changed {changed:%Y-%m-%d %H:%M:%S}")
        if config := step.config:
            for path, value in changed_settings(config).items():
                click.echo(f"  {path} = {value}")
        for key, folders in step.outputs.items():
            for folder in folders:
                click.echo(f"  -> {key}  {folder}")


@click.command()
@dataset_option
@root_option
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(dataset: str, root: str, yes: bool) -> None:
    """Remove the artifacts, metadata and logs of a dataset's pipeline.

    Pushed models stay. While the pipeline runs nothing is removed.
    """
    folders = _folders(dataset, root)
    paths = [path for path in (folders.pipeline, folders.metadata) if path.exists()]
    if not paths:
        click.echo(f"nothing of {folders.dataset} in {root}")
        return
    if not yes:
        click.confirm("Remove " + " and ".join(map(str, paths)) + "?", abort=True)
    folders.make()  # the lock is in one of them
    fix = "Wait until it ends, or stop it."
    with locks.exclusive(folders.lock, f"the pipeline of {folders.dataset}", fix):
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            click.echo(f"removed {path}")


@click.command()
@dataset_option
@data_dir_option
@root_option
@click.option(
    "--pushed-version",
    type=click.Path(),
    help="Folder of the pushed version to recommend with. By default it is the newest one.",
)
@click.option("-k", default=20, show_default=True, help="Number of items in a list.")
@click.option(
    "--out",
    type=click.Path(),
    help="Folder for the Parquet files. By default it is <root>/lists/<dataset>.",
)
def lists(
    dataset: str,
    data_dir: str | None,
    root: str,
    pushed_version: str | None,
    k: int,
    out: str | None,
) -> None:
    """Recommend to all users at once, and write Parquet files.

    A row holds user_id, is_cold, item_ids and scores. The history of a user is everything in the
    raw files; no item is held out for testing. Users without events are cold.
    """
    spec, folder = load_data(dataset, data_dir)
    folders = configs.Folders(root, spec.name)
    from pipeline.runners.quiet import quiet

    click.echo("Loading TFX (about half a minute) ...", err=True)
    folders.make()
    with quiet(folders.logs / "import.log"):
        from pipeline.commands.bulk_lists import make_lists

    path = out or pathlib.Path(root) / "lists" / spec.name
    result = make_lists(spec, folder, folders, pushed_version, k, path)
    click.echo(
        f"{result.folder}: lists of {result.users['warm']} warm, {result.users['cold']} cold users"
    )


def _folders(dataset: str, root: str) -> configs.Folders:
    from pipeline.datasets import load_spec

    return configs.Folders(root, load_spec(dataset).name)


def _lineage(dataset: str, root: str) -> "Lineage":
    from pipeline.metadata.lineage import Lineage

    folders = _folders(dataset, root)
    return Lineage(folders.metadata, folders.pipeline_name)

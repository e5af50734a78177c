"""Defines `cmclrec pipeline compile, submit, status, lineage, lists and clean`."""

import pathlib
import shutil
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from pipeline import configs
from pipeline.commands.options import (
    data_dir_option,
    dataset_option,
    load_data,
    load_inputs,
    root_option,
    run_options,
    tune_option,
)

if TYPE_CHECKING:
    from pipeline.metadata.lineage import Lineage


@click.command("compile")
@dataset_option
@run_options
@click.option(
    "--image",
    required=True,
    help="Container image that the tasks run in, built from pipeline/Dockerfile.",
)
@click.option("--pipeline-root", required=True, help="Folder for the artifacts of the tasks.")
@click.option("--serving-dir", required=True, help="Model base path that models are pushed to.")
@click.option(
    "--out",
    type=click.Path(),
    default="pipeline.json",
    show_default=True,
    help="Path of the compiled job.",
)
@click.option(
    "--project",
    default="",
    help="Google Cloud project for --dataflow, --machine-type and --endpoint.",
)
@click.option(
    "--region",
    default="us-central1",
    show_default=True,
    help="Google Cloud region for --dataflow, --machine-type and --endpoint.",
)
@click.option("--dataflow", is_flag=True, help="Run the Beam components on Dataflow.")
@click.option(
    "--machine-type",
    default="",
    help="Train in a Vertex AI job on a machine of this type, such as n1-standard-8.",
)
@click.option(
    "--endpoint",
    default="",
    help="Deploy to the Vertex AI endpoint of this name, not to --serving-dir.",
)
@click.option(
    "--serving-image", default="", help="Container image that the --endpoint serves with."
)
@click.option(
    "--trainer-cpus", "cpus", type=float, default=0, help="Number of CPUs of the Trainer's task."
)
@click.option(
    "--trainer-memory-gb",
    "memory_gb",
    type=float,
    default=0,
    help="Memory of the Trainer's task in GB.",
)
@click.option(
    "--trainer-accelerator",
    "accelerator",
    default="",
    help="Type of the Trainer's accelerator, such as NVIDIA_TESLA_T4.",
)
@click.option(
    "--trainer-accelerators",
    "accelerators",
    type=int,
    help="Number of accelerators of the Trainer; 1 if --trainer-accelerator is given.",
)
@tune_option
def compile_(
    dataset: str,
    data_dir: str | None,
    preset: str | None,
    config_path: str | None,
    image: str,
    out: str,
    trials: int,
    **more: Any,  # the options of `Machine` and `Cloud`
) -> None:
    """Compile the pipeline for Vertex AI Pipelines or Kubeflow Pipelines.

    The tasks are the components of `run`. Nothing is started; see `submit`.
    """
    spec, folder, config = load_inputs(dataset, data_dir, preset, config_path)
    from pipeline.commands import compile_job
    from pipeline.runners.cloud import Cloud
    from pipeline.runners.vertex import Machine

    if more["accelerators"] is None:
        more["accelerators"] = 1 if more["accelerator"] else 0
    machine = Machine(**{field.name: more.pop(field.name) for field in fields(Machine)})
    compile_job.compile_job(
        spec,
        folder,
        config,
        image=image,
        root=more.pop("pipeline_root"),
        serving_dir=more.pop("serving_dir"),
        out=out,
        machine=machine,
        cloud=Cloud(image=image, **more),
        trials=trials,
    )
    click.echo(f"{out}: compiled for {image}")


@click.command()
@click.argument("job", type=click.Path())
@click.option("--project", required=True, help="Google Cloud project that the job runs in.")
@click.option("--region", required=True, help="Google Cloud region that the job runs in.")
@click.option(
    "--service-account",
    help="Service account that the tasks run as. By default it is the project's.",
)
def submit(job: str, project: str, region: str, service_account: str | None) -> None:
    """Start JOB, a compiled pipeline, on Vertex AI."""
    from pipeline.runners import vertex

    started = vertex.submit(job, project, region, service_account)
    click.echo(started.resource_name)


@click.command()
@dataset_option
@root_option
def status(dataset: str, root: str) -> None:
    """Show the newest execution of each component.

    A line holds the start time, the component, its state, how long it took and the folders of its
    results.
    """
    for step in _lineage(dataset, root).latest_steps():
        folders = ", ".join(folder for group in step.outputs.values() for folder in group)
        click.echo(
            f"{step.started:%Y-%m-%d %H:%M:%S}  {step.component:<17} {step.state:<9} "
            f"{step.seconds:7.1f} s  {folders}"
        )


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

    Pushed models stay.
    """
    folders = _folders(dataset, root)
    paths = [path for path in (folders.pipeline, folders.metadata) if path.exists()]
    if not paths:
        click.echo(f"nothing of {folders.dataset} in {root}")
        return
    if not yes:
        click.confirm("Remove " + " and ".join(map(str, paths)) + "?", abort=True)
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

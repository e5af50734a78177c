"""`cmclrec pipeline compile, submit, status, lineage, lists and clean`."""

import pathlib
import shutil
from dataclasses import fields

import click

from pipeline import configs
from pipeline.commands.options import (
    data_dir_option,
    dataset_option,
    given_data,
    given_inputs,
    root_option,
    run_options,
    tune_option,
)


@click.command("compile")
@dataset_option
@run_options
@click.option("--image", required=True, help="Container image of the tasks, see Dockerfile.")
@click.option("--pipeline-root", required=True, help="Folder of the artifacts.")
@click.option("--serving-dir", required=True, help="Model base path that models are pushed to.")
@click.option(
    "--out",
    type=click.Path(),
    default="pipeline.json",
    show_default=True,
    help="The compiled job.",
)
@click.option("--project", default="", help="Of Google Cloud, for what follows.")
@click.option("--region", default="us-central1", show_default=True)
@click.option("--dataflow", is_flag=True, help="Run Beam on Dataflow.")
@click.option("--machine-type", default="", help="Train in a Vertex AI job, as on n1-standard-8.")
@click.option("--endpoint", default="", help="Deploy to this Vertex AI endpoint instead.")
@click.option("--serving-image", default="", help="Container image of the endpoint.")
@click.option("--trainer-cpus", "cpus", type=float, default=0, help="Of the Trainer's task.")
@click.option("--trainer-memory-gb", "memory_gb", type=float, default=0, help="Likewise.")
@click.option("--trainer-accelerator", "accelerator", default="", help="As NVIDIA_TESLA_T4.")
@click.option("--trainer-accelerators", "accelerators", type=int, help="How many of them.")
@tune_option
def compile_(dataset, data_dir, preset, config_path, image, out, trials, **more) -> None:
    """Compile the pipeline for Vertex AI Pipelines or Kubeflow Pipelines.

    The tasks are those of `run`. Nothing is started; see `submit`.
    """
    spec, data_dir, config = given_inputs(dataset, data_dir, preset, config_path)
    from pipeline.commands import compile_job
    from pipeline.runners.cloud import Cloud
    from pipeline.runners.vertex import Machine

    if more["accelerators"] is None:
        more["accelerators"] = 1 if more["accelerator"] else 0
    machine = Machine(**{field.name: more.pop(field.name) for field in fields(Machine)})
    compile_job.compile_job(
        spec,
        data_dir,
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
@click.option("--project", required=True, help="Of Google Cloud.")
@click.option("--region", required=True, help="Of Google Cloud.")
@click.option("--service-account", help="That the tasks run as.")
def submit(job, project, region, service_account) -> None:
    """Start JOB, a compiled pipeline, on Vertex AI."""
    from pipeline.runners import vertex

    started = vertex.submit(job, project, region, service_account)
    click.echo(started.resource_name)


@click.command()
@dataset_option
@root_option
def status(dataset, root) -> None:
    """What each component did last: its state, when, for how long, and where its results lie."""
    for step in _lineage(dataset, root).latest_steps():
        folders = ", ".join(folder for found in step.outputs.values() for folder in found)
        click.echo(
            f"{step.started:%Y-%m-%d %H:%M:%S}  {step.component:<17} {step.state:<9} "
            f"{step.seconds:7.1f} s  {folders}"
        )


@click.command()
@click.argument("version", type=click.Path(exists=True, file_okay=False))
@dataset_option
@root_option
def lineage(version, dataset, root) -> None:
    """What VERSION, the folder of a pushed model, was made of: back to the raw files."""
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
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(dataset, root, yes) -> None:
    """Remove a dataset's artifacts, metadata and logs; pushed models stay."""
    folders = _folders(dataset, root)
    found = [path for path in (folders.pipeline, folders.metadata) if path.exists()]
    if not found:
        click.echo(f"nothing of {folders.dataset} in {root}")
        return
    if not yes:
        click.confirm("Remove " + " and ".join(map(str, found)) + "?", abort=True)
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        click.echo(f"removed {path}")


@click.command()
@dataset_option
@data_dir_option
@root_option
@click.option("--version", type=click.Path(), help="Folder of a pushed model; else the newest.")
@click.option("-k", default=20, show_default=True, help="Items of a list.")
@click.option("--out", type=click.Path(), help="By default <root>/lists/<dataset>.")
def lists(dataset, data_dir, root, version, k, out) -> None:
    """Recommend to every user at once, warm and cold, and write Parquet files.

    Each row has user_id, is_cold, item_ids and scores. A user's history is all that the raw files
    hold, without a held-out item; whoever has no event is cold.
    """
    spec, data_dir = given_data(dataset, data_dir)
    folders = configs.Folders(root, spec.name)
    from pipeline.runners.quiet import quiet

    click.echo("Loading TFX (about half a minute) ...", err=True)
    folders.make()
    with quiet(folders.logs / "import.log"):
        from pipeline.commands import bulk_lists as making

    out = out or pathlib.Path(root) / "lists" / spec.name
    made = making.make(spec, data_dir, folders, version, k, out)
    click.echo(
        f"{made.folder}: lists of {made.users['warm']} warm, {made.users['cold']} cold users"
    )


def _folders(dataset, root):
    from pipeline.datasets import load_spec

    return configs.Folders(root, load_spec(dataset).name)


def _lineage(dataset, root):
    from pipeline.metadata.lineage import Lineage

    folders = _folders(dataset, root)
    return Lineage(folders.metadata, folders.pipeline_name)

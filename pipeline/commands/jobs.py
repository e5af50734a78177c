"""Defines `cmclrec pipeline compile` and `submit`."""

from dataclasses import fields
from typing import Any

import click

from pipeline.commands.options import (
    dataset_option,
    load_inputs,
    run_options,
    tune_option,
)


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

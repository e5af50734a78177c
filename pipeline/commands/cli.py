"""Defines `cmclrec prepare`, `cmclrec pipeline ...` and `cmclrec quickstart`."""

from typing import TYPE_CHECKING

import click

from pipeline import configs
from pipeline.commands.after_run import clean, lineage, lists, status
from pipeline.commands.jobs import compile_, submit
from pipeline.commands.options import (
    dataset_option,
    force_push_option,
    import_run_fn,
    load_config,
    load_inputs,
    root_option,
    run_options,
    tune_option,
)
from pipeline.storage.folders import make_folder
from serving.versions import check_dataset

if TYPE_CHECKING:
    from pipeline.commands.run_results import Run


@click.command()
@click.argument("dataset")
@run_options
@root_option
@click.option(
    "--out",
    type=click.Path(),
    help="Folder of the prepared dataset. By default it is <root>/prepared/<dataset>.",
)
def prepare(
    dataset: str,
    data_dir: str | None,
    preset: str | None,
    config_path: str | None,
    root: str,
    out: str | None,
) -> None:
    """Prepare DATASET for training.

    DATASET is the name of a dataset, or the path of a dataset spec in YAML. The prepared dataset
    holds the transformed records of the train, val and test split, the vocabularies of the train
    split, the transform graph and the schema.
    """
    config = load_config(preset, config_path)
    from pipeline.commands.prepare import prepare

    prepare(dataset, out, config, data_dir=data_dir, root=root)


@click.group()
def pipeline() -> None:
    """Run the TFX pipeline on this machine, or compile it for a cluster."""


for _command in (compile_, submit, lists, status, lineage, clean):
    pipeline.add_command(_command)


@pipeline.command()
@dataset_option
@run_options
@root_option
@click.option(
    "--run-fn",
    default=configs.RUN_FN,
    show_default=True,
    help="Import path of the function that trains.",
)
@tune_option
@force_push_option
def run(
    dataset: str,
    data_dir: str | None,
    preset: str | None,
    config_path: str | None,
    root: str,
    run_fn: str,
    trials: int,
    force_push: bool,
) -> None:
    """Go from raw files to a pushed model.

    A component whose inputs, settings and code have not changed comes from the cache. The command
    exits with 1 if the model was not blessed, and prints the bounds that it missed. The metrics of
    popularity are printed next to the model's, with a warning where the model's are lower.
    """
    result = _run(
        dataset, data_dir, preset, config_path, root, run_fn, trials, force_push=force_push
    )
    from pipeline.commands import run_report

    click.echo(run_report.segments(result))
    click.echo(run_report.quality(result))
    click.echo(run_report.places(result))
    _exit_unless_pushed(result)


@click.command()
@dataset_option
@run_options
@root_option
@click.option(
    "--port", default=0, show_default=True, help="Port of the server; 0 takes any free one."
)
@force_push_option
def quickstart(
    dataset: str,
    data_dir: str | None,
    preset: str | None,
    config_path: str | None,
    root: str,
    port: int,
    force_push: bool,
) -> None:
    """Run the pipeline, serve the pushed model and recommend to real users.

    The server recommends to one user with a history and to two new users. The command prints the
    titles of the items, the metrics by segment and the folders of all results.
    """
    from serving.contract import HOST
    from serving.server.local_server import free_address

    free_address(HOST, port)  # fails now, not after the pipeline
    result = _run(dataset, data_dir, preset, config_path, root, force_push=force_push)
    from pipeline.commands import quickstart as demo
    from pipeline.commands import run_report
    from pipeline.runners.quiet import quiet

    with quiet(result.folders.logs / "quickstart.log"):
        try:
            if result.pushed_version is not None:
                demo.show_recommendations(result, port)
        finally:
            # The training took minutes: print its results even if the server cannot answer.
            click.echo(run_report.segments(result))
            click.echo(run_report.places(result))
        if result.pushed_version is not None:
            click.echo(run_report.next_commands(result, demo.first_profile(result)))
    _exit_unless_pushed(result)


def _run(
    dataset: str,
    data_dir: str | None,
    preset: str | None,
    config_path: str | None,
    root: str,
    run_fn: str = configs.RUN_FN,
    trials: int = 0,
    *,
    force_push: bool,
) -> "Run":
    if run_fn != configs.RUN_FN:
        import_run_fn(run_fn)  # a backbone that it registers is a name that the config may have
    spec, folder, config = load_inputs(dataset, data_dir, preset, config_path)
    folders = configs.Folders(root, spec.name)
    folders.make()
    make_folder(folders.serving, "Give another folder by --root.")
    if not force_push:
        check_dataset(spec.name, folders.serving, "Give another --root, or --force-push.")
    from pipeline.runners.quiet import quiet

    click.echo("Loading TFX (about half a minute) ...", err=True)
    with quiet(folders.logs / "import.log"):
        from pipeline.commands.run import run_pipeline

    result = run_pipeline(spec, folder, config, root, run_fn, trials, force_push)
    click.echo(f"{spec.name}: {result.users}", err=True)
    return result


def _exit_unless_pushed(result: "Run") -> None:
    if result.pushed_version is None:
        click.echo("The model was not pushed:", err=True)
        for reason in result.reasons:
            click.echo(f"  {reason}", err=True)
        raise SystemExit(1)

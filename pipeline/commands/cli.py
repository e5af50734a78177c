"""`cmclrec prepare`, `cmclrec pipeline ...` and `cmclrec quickstart`."""

import click

from pipeline import configs
from pipeline.commands.jobs import clean, compile_, lineage, lists, status, submit
from pipeline.commands.options import (
    dataset_option,
    given_config,
    given_inputs,
    root_option,
    run_options,
    tune_option,
)
from pipeline.storage.folders import make_folder


@click.command()
@click.argument("dataset")
@run_options
@root_option
@click.option(
    "--out",
    type=click.Path(),
    help="Folder of the prepared dataset; by default <root>/prepared/<dataset>.",
)
def prepare(dataset, data_dir, preset, config_path, root, out) -> None:
    """Prepare DATASET (a name, or the path of a spec in YAML) for training.

    Leaves the prepared dataset: transformed records of the train, val and test split,
    vocabularies of the train split, the transform graph and the schema.
    """
    config = given_config(preset, config_path)
    from pipeline.commands import prepare as preparing

    preparing.prepare(dataset, out, config, data_dir=data_dir, root=root)


@click.group()
def pipeline() -> None:
    """Run the TFX pipeline, here or compiled for a cluster."""


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
    help="Import path of the function that the Trainer calls.",
)
@tune_option
def run(dataset, data_dir, preset, config_path, root, run_fn, trials) -> None:
    """From raw files to a pushed model; what is cached is not run again.

    Exits with 1 when the model was not blessed, and says which bound it missed.
    """
    left = _run(dataset, data_dir, preset, config_path, root, run_fn, trials)
    from pipeline.commands import run_report

    click.echo(run_report.quality(left))
    click.echo(run_report.places(left))
    _exit(left)


@click.command()
@dataset_option
@run_options
@root_option
@click.option("--port", default=0, show_default=True, help="Port on loopback; 0 takes a free one.")
def quickstart(dataset, data_dir, preset, config_path, root, port) -> None:
    """Run the pipeline, serve the pushed model and ask it for real users.

    Asks `warm` for a user with a history and `cold` for two new users, prints the titles and the
    segment table, and says where everything lies.
    """
    from serving.contract import HOST
    from serving.server.local_server import free_address

    free_address(HOST, port)  # better now than after the pipeline
    left = _run(dataset, data_dir, preset, config_path, root)
    from pipeline.commands import quickstart as quick
    from pipeline.commands import run_report
    from pipeline.runners.quiet import quiet

    with quiet(left.folders.logs / "quickstart.log"):
        try:
            if left.pushed is not None:
                quick.ask(left, port)
        finally:
            # Minutes of training are told of even if the server then cannot be asked.
            click.echo(run_report.segments(left))
            click.echo(run_report.places(left))
        if left.pushed is not None:
            click.echo(run_report.next_commands(left, quick.first_profile(left)))
    _exit(left)


def _run(dataset, data_dir, preset, config_path, root, run_fn=configs.RUN_FN, trials=0):
    spec, data_dir, config = given_inputs(dataset, data_dir, preset, config_path)
    folders = configs.Folders(root, spec.name)
    folders.make()
    make_folder(folders.serving, "Give another folder by --root.")
    from pipeline.runners.quiet import quiet

    click.echo("Loading TFX (about half a minute) ...", err=True)
    with quiet(folders.logs / "import.log"):
        from pipeline.commands.run import run_pipeline

    left = run_pipeline(spec, data_dir, config, root, run_fn, trials)
    click.echo(f"{spec.name}: {left.users}", err=True)
    return left


def _exit(left):
    if left.pushed is None:
        click.echo("The model was not pushed:", err=True)
        for reason in left.reasons:
            click.echo(f"  {reason}", err=True)
        raise SystemExit(1)

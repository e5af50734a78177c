"""The `cmclrec` command: collects the command groups that the packages register."""

import logging
import sys
from importlib.metadata import entry_points
from typing import Any

import click

from cmclrec_tf.errors import ReadableError
from cmclrec_tf.processes import stopping

GROUP = "cmclrec.commands"
# The extra of this package with what a command imports.
_EXTRAS = {
    "train": "library",
    "serve": "serving",
    "recommend": "client",
    "loadtest": "serving",
    "index": "retrieval",
    "prepare": "pipeline",
    "pipeline": "pipeline",
    "quickstart": "pipeline",
    "experiment": "pipeline,experiments",
}


class ReadableGroup(click.Group):
    """A group that prints user-facing errors as one line and exits with status 2.

    After a signal it prints one line, too, and exits with 130 (Ctrl-C) or 143 (SIGTERM).
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and turns its user-facing errors into exit status 2."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            # A group inside this one has printed its error.
            if stopping.received():
                stopping.end()
            raise
        except BaseException as error:
            report(error)
            ctx.exit(2)


def report(error: BaseException) -> None:
    """Prints a user-facing error as one line, and raises any other error.

    After a signal, the process ends instead: libraries catch the exception of a signal, and raise
    errors of their own.
    """
    if stopping.received():
        stopping.end()
    line = _one_line(error)
    if line is None:
        raise error
    click.echo(f"error: {line}", err=True)


def _one_line(error: BaseException) -> str | None:
    """Returns what a user should read of an error, or None if it needs a traceback."""
    if isinstance(error, ReadableError):
        return str(error)
    # After a BrokenPipeError, of `| head`, click ends the process without a word.
    if not isinstance(error, Exception) or isinstance(error, BrokenPipeError):
        return None
    from cmclrec_tf.processes.whole import full_disk

    if full := full_disk(error):
        return str(full)
    if isinstance(error, OSError):
        # Errors that no check foresees, such as a folder that is read-only.
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None


class CommandGroups(ReadableGroup):
    """A group whose commands are the entry points of GROUP, each imported when it is called."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs the command line of the process, or that in the first argument."""
        if not args and extra.get("args") is None:  # else the signals belong to the caller
            stopping.install()
            # Where the home cannot be written it takes a temporary folder for its cache, in words.
            logging.getLogger("matplotlib").setLevel(logging.ERROR)
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; says in one line which extra of this package it lacks."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name, extra = ctx.invoked_subcommand, _EXTRAS.get(ctx.invoked_subcommand or "")
            packages = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
            if extra is None or not error.name or error.name.partition(".")[0] in packages:
                raise
            click.echo(
                f"error: {error.name}: `cmclrec {name}` needs it, and it is not installed. "
                f'Run pip install "cmclrec-tf[{extra}]".',
                err=True,
            )
            ctx.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, without importing them."""
        return sorted(point.name for point in entry_points(group=GROUP))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports and returns a command; None if there is none of that name."""
        points = [point for point in entry_points(group=GROUP) if point.name == name]
        command: click.Command | None = points[0].load() if points else None
        return command


@click.group(cls=CommandGroups, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cmclrec-tf")
def main() -> None:
    """Recommendations for users with a history and for users without one.

    \b
    cmclrec quickstart                 go from raw MovieLens-100K files to served recommendations
    cmclrec prepare movielens-100k     turn raw files into a prepared dataset
    cmclrec pipeline run               prepare, train, evaluate and push with TFX
    cmclrec serve                      serve the pushed model over gRPC
    cmclrec recommend ...              request recommendations from a server
    cmclrec experiment quality         compare models with baselines over several splits
    """


if __name__ == "__main__":
    sys.exit(main())

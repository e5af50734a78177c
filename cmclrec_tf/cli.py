"""`cmclrec`: collects the command groups that the rooms register; imports none of them itself."""

import sys
from importlib.metadata import entry_points

import click

from cmclrec_tf.errors import ReadableError

GROUP = "cmclrec.commands"


class ReadableGroup(click.Group):
    """A group that prints an error made for people as one line, and exits with 2."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except ReadableError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except OSError as error:
            # What no check foresaw: a full disk, a folder that may not be written.
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {where}{error.strerror or error}", err=True)
            ctx.exit(2)


class Rooms(ReadableGroup):
    """A group whose commands are the entry points of GROUP, each loaded when it is asked for."""

    def list_commands(self, ctx):
        return sorted(point.name for point in entry_points(group=GROUP))

    def get_command(self, ctx, name):
        found = [point for point in entry_points(group=GROUP) if point.name == name]
        return found[0].load() if found else None


@click.group(cls=Rooms, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cmclrec-tf")
def main() -> None:
    """Recommendations for users with a history and for users without one.

    \b
    cmclrec quickstart                 the whole way on MovieLens-100K
    cmclrec prepare movielens-100k     raw files to a prepared dataset
    cmclrec pipeline run               prepared, trained, gated, pushed
    cmclrec serve                      gRPC on the pushed model
    cmclrec recommend ...              ask a server
    cmclrec experiment quality         models against floors, over several draws
    """


if __name__ == "__main__":
    sys.exit(main())

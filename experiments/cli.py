"""Command line of the experiments: `cmclrec experiment ...`."""

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from experiments.run_table import Outcome

RUNS = 5

Function = Callable[..., None]


@click.group()
def experiment() -> None:
    """Compare models over several splits of the users.

    Run r splits the users with the salt r and trains with the seed r. Its dataset is prepared with
    data.target=all in <root>/prepared/<dataset>-salt<r>. The result of each model and run is kept
    under --out and shared by all tables. It is computed again only when its config or its dataset
    changes.

    \b
    Rows that --models accepts:
      random, popularity, popularity-last, popularity-recent, features-mlp,
      features-mlp-last, features-mlp-decayed, features-knn, features-knn-last: floors.
      two-tower, two-tower-last: two towers by TensorFlow Recommenders.
      clcrec, deep-music, dropout-net, ...: baselines of other papers.
      The name of a backbone: the backbone alone, without the mapper.
      The name of a preset: CMCLRec with its config.
      NoDA, NoCL, None: CMCLRec without parts of the mapper.

    A colon after the name changes the config of a row: default:finetune.ema=0+model.simulated=4

    The config of a row is the preset <row>-<dataset>, else <row>, else that of `default`.
    """


_SHARED = (
    click.option(
        "--dataset", required=True, help="Name of a dataset, or path of a dataset spec in YAML."
    ),
    click.option(
        "--data-dir",
        type=click.Path(),
        help="Folder of the raw files. By default they are downloaded and cached.",
    ),
    click.option("--preset", help="Preset for every row, instead of each row's own."),
    click.option(
        "--config",
        "config_path",
        type=click.Path(),
        help="YAML config for every row, instead of each row's own.",
    ),
    click.option(
        "--runs",
        default=RUNS,
        show_default=True,
        type=click.IntRange(1),
        help="Number of runs, each with its own split of the users.",
    ),
    click.option(
        "--root",
        type=click.Path(),
        default="var",
        show_default=True,
        help="Folder for prepared datasets and results.",
    ),
    click.option(
        "--out",
        type=click.Path(),
        help="Folder of the results. By default it is <root>/experiments/<dataset>.",
    ),
    click.option(
        "--prepared",
        metavar="PATTERN",
        help="Path of existing prepared datasets, such as 'folder/salt{run}'; nothing is prepared.",
    ),
)

_OF_TABLES = (
    click.option("--models", help="Names of the rows to use instead, separated by commas."),
    click.option(
        "--against",
        metavar="ROW",
        help="Compare every other row with this one, instead of the pairs of the table.",
    ),
    click.option(
        "--trials",
        default=0,
        type=click.IntRange(0),
        help="Number of trials that tune each trained row first, on the validation users of run 0. "
        "The results are in tuned-<trials> below --out. By default nothing is tuned.",
    ),
)

_MODEL = click.option(
    "--model", default="default", show_default=True, help="Name of a CMCLRec row, such as a preset."
)


def _command(options: Sequence[Callable[[Function], Function]]) -> Callable[[Function], Any]:
    """Returns a decorator that makes a function a command of the group, with these options."""

    def add(function: Function) -> click.Command:
        for option in reversed(options):
            function = option(function)
        return experiment.command(function.__name__.replace("_", "-"))(function)

    return add


def _command_line() -> str:
    """Returns the running command with the options of the command line."""
    context = click.get_current_context()
    words = ["cmclrec", str(experiment.name), str(context.command.name)]
    for option in context.command.params:
        if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
            words += [option.opts[0], str(context.params[str(option.name)])]
    return shlex.join(words)


def _show(outcome: "Outcome") -> None:
    click.echo(outcome.text)
    click.echo("\n" + "\n".join(map(str, outcome.files)))


def _table_command(name: str, text: str) -> click.Command:
    """Adds the command of a table, see `table_kinds`; `text` is its help."""

    def command(dataset: str, models: str | None, **options: Any) -> None:
        from experiments import table_kinds
        from experiments.run_table import run

        kind = getattr(table_kinds, name.upper())
        names = [row.strip() for row in models.split(",")] if models else None
        _show(run(dataset, kind, models=names, command=_command_line(), **options))

    command.__doc__, command.__name__ = text, name
    return _command((*_SHARED, *_OF_TABLES))(command)


_table_command(
    "quality",
    "Floors, two towers, the backbone alone, and CMCLRec by the presets `paper` and `default`.",
)
_table_command("table1", "CMCLRec and models of other papers. It is the paper's Table 1.")
_table_command("table2", "CMCLRec without parts of the mapper. It is the paper's Table 2.")
_table_command("backbones", "Each backbone alone and with the mapper in front of it.")


@_command(
    (
        *_SHARED,
        _MODEL,
        click.option(
            "--users",
            default=1000,
            show_default=True,
            type=click.IntRange(2),
            help="Largest number of test users of each segment.",
        ),
    )
)
def figure2(dataset: str, **options: Any) -> None:
    """Compare simulated with real histories. It is the paper's Figure 2, around stage 1."""
    from experiments.figure2 import run

    _show(run(dataset, command=_command_line(), **options))


@_command(
    (
        *_SHARED,
        _MODEL,
        click.option(
            "--shares",
            default=".05,.1,.25,.5,1",
            show_default=True,
            help="Shares of the train users, in (0, 1], separated by commas.",
        ),
        click.option(
            "--stage1",
            default="same",
            show_default=True,
            type=click.Choice(["same", "all"]),
            help="Users that stage 1 reads: the same share as stage 2, or all train users.",
        ),
    )
)
def curve(dataset: str, shares: str, **options: Any) -> None:
    """Train CMCLRec, whole and without parts of the mapper, on shares of the train users."""
    from experiments.curve import parse_shares, run

    _show(run(dataset, shares=parse_shares(shares), command=_command_line(), **options))


@_command((*_SHARED, _MODEL))
def short_histories(dataset: str, **options: Any) -> None:
    """Compare history, features and both for users with few events, and the backbone alone."""
    from experiments.short_histories import run

    _show(run(dataset, command=_command_line(), **options))

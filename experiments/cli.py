"""`cmclrec experiment ...`."""

import shlex

import click
from click.core import ParameterSource

RUNS = 5


@click.group()
def experiment() -> None:
    """Compare models over several draws of the users.

    Run r draws the users with the salt r and trains with the seed r. Its dataset is prepared with
    data.target=all in <root>/prepared/<dataset>-salt<r>. What a run of a model leaves is kept under
    --out, whichever table asked for it, and is not computed again while its config and its dataset
    stay the same.

    \b
    Rows that --models takes:
    random, popularity, popularity-last, features-mlp, features-mlp-last,
    features-knn, features-knn-last,
    the name of another paper's baseline: clcrec, deep-music, dropout-net, ...
    the name of a backbone: it alone, without the mapper,
    the name of a preset: CMCLRec by that config,
    NoDA, NoCL, None: CMCLRec with parts of the mapper taken away.

    Behind a colon a row's config can be changed: default:finetune.ema=0+model.simulated=4

    A row's config is the preset <row>-<dataset> where there is one, else the preset <row>; what
    has no preset takes that of `default`.
    """


_SHARED = (
    click.option(
        "--dataset", required=True, help="A dataset's name, or the path of a dataset spec in YAML."
    ),
    click.option(
        "--data-dir",
        type=click.Path(),
        help="Folder that holds the raw files; without it they are fetched and cached.",
    ),
    click.option("--preset", help="A preset for every row, instead of each row's own."),
    click.option("--config", "config_path", type=click.Path(), help="A config in YAML, likewise."),
    click.option("--runs", default=RUNS, show_default=True, type=click.IntRange(1)),
    click.option("--root", type=click.Path(), default="var", show_default=True),
    click.option(
        "--out",
        type=click.Path(),
        help="Folder of the results; by default <root>/experiments/<dataset>.",
    ),
    click.option(
        "--prepared",
        metavar="PATTERN",
        help="Prepared datasets that exist, such as 'folder/salt{run}'; nothing is prepared then.",
    ),
)

_OF_TABLES = (
    click.option("--models", help="Other rows, by name, with commas between."),
    click.option("--against", metavar="ROW", help="Tell every other row against this one too."),
    click.option(
        "--trials",
        default=0,
        type=click.IntRange(0),
        help="Tune every trained row first, with so many trials each, on run 0's validation users; "
        "the results lie in tuned-<trials> below --out.",
    ),
)


def _command(options):
    """Makes a command of the group, with options, of a function."""

    def add(function):
        for option in reversed(options):
            function = option(function)
        return experiment.command(function.__name__.replace("_", "-"))(function)

    return add


def _typed():
    """The running command with the options that were given."""
    context = click.get_current_context()
    words = ["cmclrec", experiment.name, context.command.name]
    for option in context.command.params:
        if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            words += [option.opts[0], str(context.params[option.name])]
    return shlex.join(words)


def _show(done):
    click.echo(done.text)
    click.echo("\n" + "\n".join(map(str, done.files)))


def _table(name):
    """Makes a command of a function without a body: the table of that name, by its docstring."""

    def add(described):
        def command(dataset, models, **options):
            from experiments import table_kinds
            from experiments.quality import run

            done = run(
                dataset,
                getattr(table_kinds, name.upper()),
                models=models and [row.strip() for row in models.split(",")],
                command=_typed(),
                **options,
            )
            _show(done)

        command.__doc__, command.__name__ = described.__doc__, name
        return _command((*_SHARED, *_OF_TABLES))(command)

    return add


@_table("quality")
def quality() -> None:
    """Floors, the plain backbone and CMCLRec by the presets `paper` and `default`."""


@_table("table1")
def table1() -> None:
    """CMCLRec beside the cold-start recommenders of other papers (the paper's Table 1)."""


@_table("table2")
def table2() -> None:
    """CMCLRec with parts of the mapper taken away (the paper's Table 2)."""


@_table("backbones")
def backbones() -> None:
    """Each backbone alone, and with the mapper in front of it."""


@_command(
    (
        *_SHARED,
        click.option("--model", default="default", show_default=True, help="A row of CMCLRec."),
        click.option(
            "--users",
            default=1000,
            show_default=True,
            type=click.IntRange(2),
            help="Test users of each segment at most.",
        ),
    )
)
def figure2(dataset, **options) -> None:
    """Simulated beside real histories, before and after stage 1 (the paper's Figure 2)."""
    from experiments.figure2 import run

    _show(run(dataset, command=_typed(), **options))


@_command(
    (
        *_SHARED,
        click.option("--model", default="default", show_default=True, help="A row of CMCLRec."),
    )
)
def short_histories(dataset, **options) -> None:
    """Users with a few events: the warm way, the cold one, and blends of both."""
    from experiments.short_histories import run

    _show(run(dataset, command=_typed(), **options))

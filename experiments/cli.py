"""`cmclrec experiment ...`."""

import click

RUNS = 5


@click.group()
def experiment():
    """Compare models over several draws of the users."""


@experiment.command()
@click.option(
    "--dataset", required=True, help="A dataset's name, or the path of a dataset spec in YAML."
)
@click.option(
    "--data-dir",
    type=click.Path(),
    help="Folder that holds the raw files; without it they are fetched and cached.",
)
@click.option("--preset", help="A preset for every row, instead of each row's own.")
@click.option("--config", "config_path", type=click.Path(), help="A config in YAML, likewise.")
@click.option("--runs", default=RUNS, show_default=True, type=click.IntRange(1))
@click.option("--models", help="Rows to compute, by name, with commas between; all by default.")
@click.option("--root", type=click.Path(), default="var", show_default=True)
@click.option(
    "--out",
    type=click.Path(),
    help="Folder of the results; by default <root>/experiments/quality/<dataset>.",
)
@click.option(
    "--prepared",
    metavar="PATTERN",
    help="Prepared datasets that exist, such as 'folder/salt{run}'; nothing is prepared then.",
)
def quality(dataset, data_dir, preset, config_path, runs, models, root, out, prepared):
    """Train and evaluate every model on RUNS draws, and compare them.

    Run r draws the users with the salt r and trains with the seed r. Its dataset is prepared with
    data.target=all in <root>/prepared/<dataset>-salt<r>. What a run of a model leaves is kept under
    --out, and is not computed again while its config and its dataset stay the same.

    \b
    Rows: random, popularity, popularity-last, features-mlp, features-mlp-last,
    features-knn, features-knn-last,
    the name of another paper's baseline (docs/evaluation.md; none by default),
    the name of a backbone (it alone, without the mapper; `sasrec` by default),
    the name of a preset (CMCLRec by that config; `paper` and `default` by default).

    Behind a colon a row's config can be changed: default:finetune.ema=0+model.simulated=4

    A row's config is the preset <row>-<dataset> where there is one, else the preset <row>; a
    backbone without a preset takes that of `default`.
    """
    from experiments.quality import run

    done = run(
        dataset,
        data_dir=data_dir,
        preset=preset,
        config_path=config_path,
        runs=runs,
        models=models and [name.strip() for name in models.split(",")],
        root=root,
        out=out,
        prepared=prepared,
    )
    click.echo(done.text)
    click.echo(f"\n{done.markdown}\n{done.csv}")

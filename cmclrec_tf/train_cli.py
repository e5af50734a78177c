"""`cmclrec train`: both stages on a prepared dataset, alone or as one of several workers."""

import pathlib

import click


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--config", "config_path", type=click.Path(), help="A config in YAML.")
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path),
    default="model.keras",
    show_default=True,
    help="The trained model; the chief writes it.",
)
@click.option("--logs", type=click.Path(), help="Folder for TensorBoard.")
@click.option("--checkpoints", type=click.Path(), help="Folder that all workers see.")
def train(folder, config_path, out, logs, checkpoints) -> None:
    """Train on FOLDER, a prepared dataset, and save the model.

    With several workers in TF_CONFIG this process is one of them, and every one is started by the
    same command. With several GPUs and no TF_CONFIG all of them are used.
    """
    from cmclrec_tf import replicas
    from cmclrec_tf.errors import InputError

    if out.suffix != ".keras":
        raise InputError(out, "Keras saves a model to a name that ends in .keras", "Correct --out.")
    # First of all: the workers meet here.
    strategy = replicas.strategy_here()

    from cmclrec_tf import Config, load, training

    config = Config.from_yaml(config_path) if config_path else Config.preset("default")
    dataset = load(folder)
    with strategy.scope():
        model = training.train(dataset, config, log_dir=logs, checkpoint_dir=checkpoints)
        chief = replicas.is_chief()
    if chief:
        out.parent.mkdir(parents=True, exist_ok=True)
        replicas.plain_copy(model, dataset).save(out)
        click.echo(f"{out}: trained by {strategy.num_replicas_in_sync} replicas")


if __name__ == "__main__":
    train()

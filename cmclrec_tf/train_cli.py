"""`cmclrec train`: runs both training stages on a prepared dataset and saves the model."""

import pathlib

import click


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--config",
    "config_path",
    type=click.Path(),
    help="YAML file of settings.  [default: the preset `default`]",
)
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path),
    default="model.keras",
    show_default=True,
    help="Path of the trained model; with several workers only the chief writes it.",
)
@click.option("--logs", type=click.Path(), help="Folder for TensorBoard logs.")
@click.option(
    "--checkpoints",
    type=click.Path(),
    help="Folder for checkpoints, which a restarted run resumes from; shared by all workers.",
)
def train(
    folder: str,
    config_path: str | None,
    out: pathlib.Path,
    logs: str | None,
    checkpoints: str | None,
) -> None:
    """Train on FOLDER, a prepared dataset, and save the model.

    To train with several workers, set TF_CONFIG and start this command once per worker. Without
    TF_CONFIG it uses all GPUs of this machine.
    """
    from cmclrec_tf import replicas
    from cmclrec_tf.errors import InputError
    from cmclrec_tf.processes.whole import make_folder, whole_file

    if out.suffix != ".keras":
        raise InputError(out, "Keras saves a model to a name that ends in .keras", "Correct --out.")
    make_folder(out.parent, "Give another path by --out.")  # fails now, not after the training
    # The workers connect here, which must come before anything else that uses TensorFlow.
    strategy = replicas.find_strategy()

    from cmclrec_tf import Config, load, training

    config = Config.from_yaml(config_path) if config_path else Config.preset("default")
    dataset = load(folder, config.data.max_history)
    with strategy.scope():
        model = training.train(dataset, config, log_dir=logs, checkpoint_dir=checkpoints)
        chief = replicas.is_chief()
    if chief:
        with whole_file(out) as path:
            replicas.plain_copy(model, dataset).save(path)
        click.echo(f"{out}: trained by {strategy.num_replicas_in_sync} replicas")


if __name__ == "__main__":
    train()

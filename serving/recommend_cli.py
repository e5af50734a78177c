"""`cmclrec recommend ...`."""

import functools
import os

import click

from serving import console
from serving.local_server import HOST, MODEL_NAME, PORT


@click.group()
def recommend():
    """Ask a running server for recommendations."""


def _asking(command):
    """The options that both ways of asking share."""
    options = [
        click.option("--exclude", multiple=True, metavar="ID", help="An item not to recommend."),
        click.option(
            "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items wanted."
        ),
        click.option("--target", default=f"{HOST}:{PORT}", show_default=True, help="host:port."),
        click.option("--model_name", default=MODEL_NAME, show_default=True),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            help="Seconds.",
        ),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@recommend.command()
@click.option(
    "--item", "items", multiple=True, required=True, metavar="ID", help="History, oldest first."
)
@_asking
def warm(items, exclude, k, target, model_name, timeout):
    """Recommend to a user with a history.

    \b
    cmclrec recommend warm --item 50 --item 181 -k 10
    """
    with _client(target, model_name, timeout) as client:
        _print(client.warm([items], exclude=[exclude], k=k)[0])


@recommend.command()
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=VALUE",
    help="A user feature; repeat the name for several values.",
)
@_asking
def cold(features, exclude, k, target, model_name, timeout):
    """Recommend to a user without a history, from user features alone.

    \b
    cmclrec recommend cold --feature age=24 --feature gender=F
    """
    user = {}
    for feature in features:
        name, equals, value = feature.partition("=")
        if not (name and equals):
            raise click.BadParameter(
                "a feature is written NAME=VALUE, such as age=24.", param_hint="--feature"
            )
        user.setdefault(name, []).append(value)
    user = {name: values if len(values) > 1 else values[0] for name, values in user.items()}
    with _client(target, model_name, timeout) as client:
        _print(client.cold([user], exclude=[exclude], k=k)[0])


def _client(target, model_name, timeout):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console.quiet_imports()
    from serving.client import Client

    return Client(target, model_name, timeout)


def _print(recommendations):
    if not recommendations.item_ids:
        click.echo("No items are left to recommend.")
    width = max(map(len, recommendations.item_ids), default=0)
    pairs = zip(recommendations.item_ids, recommendations.scores, strict=True)
    for rank, (item, score) in enumerate(pairs, 1):
        line = f"{rank:>3}  {item:<{width}}  {score:.4f}"
        # Bytes of an id that are no UTF-8 cannot be shown.
        click.echo(line.encode("utf-8", "replace").decode())

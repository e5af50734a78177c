"""`cmclrec recommend ...`, also `python -m serving.client.sync ...`."""

import functools
import itertools
import json
import os

import click

from cmclrec_tf.cli import ReadableGroup
from cmclrec_tf.errors import InputError
from serving.commands import console
from serving.contract import HOST, MODEL_NAME, PORT

# Users that `many` reads before it asks; those of similar histories among them go together.
_AT_ONCE = 2048


@click.group(cls=ReadableGroup)
def recommend() -> None:
    """Ask a running server for recommendations."""


def _asking(command):
    """The options that all ways of asking share."""
    options = [
        click.option(
            "-k", type=click.IntRange(min=1), default=10, show_default=True, help="Items wanted."
        ),
        click.option("--target", default=f"{HOST}:{PORT}", show_default=True, help="host:port."),
        click.option("--model_name", default=MODEL_NAME, show_default=True),
        click.option("--version", type=click.IntRange(min=0), help="Of the model, to be asked."),
        click.option("--label", "version_label", help="Of the version to be asked."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            help="Seconds of one request.",
        ),
        click.option(
            "--wait",
            "wait_for_ready",
            is_flag=True,
            help="Wait until the timeout for a server that is not there yet or starts again.",
        ),
        click.option("--tls", is_flag=True, help="Encrypt; trust the usual authorities."),
        click.option(
            "--root_certificates",
            type=click.Path(),
            help="Encrypt; trust the certificates of this file (PEM) only.",
        ),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


_item = click.option("--item", "items", multiple=True, metavar="ID", help="History, oldest first.")
_feature = click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=VALUE",
    help="A user feature; repeat the name for several values.",
)
_exclude = click.option("--exclude", multiple=True, metavar="ID", help="An item not to recommend.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@recommend.command()
@click.option(
    "--item", "items", multiple=True, required=True, metavar="ID", help="History, oldest first."
)
@_exclude
@_json
@_asking
def warm(items, exclude, as_json, k, **connection) -> None:
    """Recommend to a user with a history.

    \b
    cmclrec recommend warm --item 50 --item 181 -k 10
    """
    with _client(connection) as client:
        _print(client.warm([items], exclude=[exclude], k=k)[0], as_json)


@recommend.command()
@_feature
@_exclude
@_json
@_asking
def cold(features, exclude, as_json, k, **connection) -> None:
    """Recommend to a user without a history, from user features alone.

    \b
    cmclrec recommend cold --feature age=24 --feature gender=F
    """
    with _client(connection) as client:
        _print(client.cold([_user(features)], exclude=[exclude], k=k)[0], as_json)


@recommend.command()
@_item
@_feature
@_exclude
@_json
@_asking
def user(items, features, exclude, as_json, k, **connection) -> None:
    """Recommend to a user by all that is known: history, user features or both.

    \b
    cmclrec recommend user --item 50 --feature age=24 --json
    """
    known = _user(features)
    for name in ("history", "exclude"):
        if name in known:
            raise click.BadParameter(
                f"{name} is no user feature; use --item and --exclude.", param_hint="--feature"
            )
    with _client(connection) as client:
        _print(client.recommend({**known, "history": items, "exclude": exclude}, k), as_json)


@recommend.command()
@click.option(
    "--input",
    "lines",
    type=click.File(encoding="utf-8", errors="surrogateescape"),
    default="-",
    show_default="standard input",
    help="Users, one JSON object a line.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Requests under way at once.",
)
@_asking
def many(lines, concurrency, k, **connection) -> None:
    """Recommend to many users: JSON lines in, JSON lines out, in the same order.

    A line holds any of "history", "exclude" and user features; its "user_id" is repeated in the
    answer.

    \b
    echo '{"user_id": "7", "history": ["50", "181"], "age": 24}' | cmclrec recommend many
    """
    options = _options(connection)
    import asyncio

    from serving.client.asynchronous import AsyncClient

    async def ask():
        async with AsyncClient(concurrency=concurrency, **options) as client:
            first = 1
            while chunk := list(itertools.islice(lines, _AT_ONCE)):
                users = [_parsed(line, number) for number, line in enumerate(chunk, first)]
                keys = [{"user_id": u.pop("user_id")} if "user_id" in u else {} for u in users]
                answers = await client.recommend_many(users, k, first)
                for key, answer in zip(keys, answers, strict=True):
                    click.echo(_line(answer, **key))
                first += len(chunk)

    asyncio.run(ask())


def _parsed(line, number):
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"user {number}", "its line must hold a JSON object", "Correct the line's JSON."
        )
    return found


def _user(features):
    user = {}
    for feature in features:
        name, equals, value = feature.partition("=")
        if not (name and equals):
            raise click.BadParameter(
                "a feature is written NAME=VALUE, such as age=24.", param_hint="--feature"
            )
        user.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in user.items()}


def _client(connection):
    options = _options(connection)
    from serving.client.sync import Client

    return Client(**options)


def _options(connection):
    """The options of a client; then it may be imported, and what it imports is quiet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    console.quiet_imports()
    tls = connection.pop("tls")
    if tls and connection["root_certificates"] is None:
        import grpc

        connection["credentials"] = grpc.ssl_channel_credentials()
    return connection


def _line(answer, **first):
    return json.dumps(
        {
            **first,
            "item_ids": answer.item_ids,
            "scores": answer.scores,
            "version": answer.version,
            "signature": answer.signature,
            "is_cold": answer.is_cold,
        }
    )


def _print(answer, as_json):
    if as_json:
        click.echo(_line(answer))
        return
    if not answer.item_ids:
        click.echo("No items are left to recommend.")
    width = max(map(len, answer.item_ids), default=0)
    pairs = zip(answer.item_ids, answer.scores, strict=True)
    for rank, (item, score) in enumerate(pairs, 1):
        line = f"{rank:>3}  {item:<{width}}  {score:.4f}"
        # Bytes of an id that are no UTF-8 cannot be shown.
        click.echo(line.encode("utf-8", "replace").decode())

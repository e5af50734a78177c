"""Implements `cmclrec recommend`, which requests recommendations from a running server."""

import functools
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from cmclrec_tf.cli import ReadableGroup
from cmclrec_tf.errors import InputError
from serving.commands import console
from serving.contract import HOST, MODEL_NAME, PORT

if TYPE_CHECKING:
    from serving.client import Client, Recommendations

# Users that `many` reads before it sends a request; similar ones among them share a batch.
_CHUNK = 2048


@click.group(cls=ReadableGroup)
def recommend() -> None:
    """Request recommendations from a running server."""


def _connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that all subcommands share."""
    options = [
        click.option(
            "-k",
            type=click.IntRange(min=1),
            default=10,
            show_default=True,
            help="Number of items to recommend.",
        ),
        click.option(
            "--target",
            default=f"{HOST}:{PORT}",
            show_default=True,
            help="Address of the server as host:port.",
        ),
        click.option(
            "--model-name",
            default=MODEL_NAME,
            show_default=True,
            help="Name under which the model is served.",
        ),
        click.option(
            "--model-version",
            "version",
            type=click.IntRange(min=0),
            help="Use this version of the model.",
        ),
        click.option("--version-label", help="Use the version with this label."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            help="Time limit of one request in seconds.",
        ),
        click.option(
            "--wait",
            "wait_for_ready",
            is_flag=True,
            help="Wait up to the timeout for a server that is not running yet.",
        ),
        click.option(
            "--tls", is_flag=True, help="Encrypt and trust the usual certificate authorities."
        ),
        click.option(
            "--root-certificates",
            type=click.Path(),
            help="Encrypt and trust only the certificates in this PEM file.",
        ),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def _item_option(required: bool) -> Callable[..., Any]:
    return click.option(
        "--item",
        "items",
        multiple=True,
        required=required,
        metavar="ID",
        help="Item of the user's history; repeat the flag, oldest item first.",
    )


_feature_option = click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=VALUE",
    help="A user feature; repeat the name for several values.",
)
_exclude_option = click.option(
    "--exclude", multiple=True, metavar="ID", help="Item that must not be recommended."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@recommend.command()
@_item_option(required=True)
@_exclude_option
@_json_option
@_connection_options
def warm(
    items: Sequence[str], exclude: Sequence[str], as_json: bool, k: int, **connection: Any
) -> None:
    """Recommend items to a user with a history.

    \b
    cmclrec recommend warm --item 50 --item 181 -k 10
    """
    with _client(connection) as client:
        _print(client.warm([items], exclude=[exclude], k=k)[0], as_json)


@recommend.command()
@_feature_option
@_exclude_option
@_json_option
@_connection_options
def cold(
    features: Sequence[str], exclude: Sequence[str], as_json: bool, k: int, **connection: Any
) -> None:
    """Recommend items to a user without a history, from user features alone.

    \b
    cmclrec recommend cold --feature age=24 --feature gender=F
    """
    with _client(connection) as client:
        _print(client.cold([_parsed_features(features)], exclude=[exclude], k=k)[0], as_json)


@recommend.command()
@_item_option(required=False)
@_feature_option
@_exclude_option
@_json_option
@_connection_options
def user(
    items: Sequence[str],
    features: Sequence[str],
    exclude: Sequence[str],
    as_json: bool,
    k: int,
    **connection: Any,
) -> None:
    """Recommend items to a user with a history, user features or both.

    \b
    cmclrec recommend user --item 50 --feature age=24 --json
    """
    user_features = _parsed_features(features)
    for name in ("history", "exclude"):
        if name in user_features:
            raise click.BadParameter(
                f"{name} is not a user feature; use --item and --exclude.",
                param_hint="--feature",
            )
    with _client(connection) as client:
        answer = client.recommend({**user_features, "history": items, "exclude": exclude}, k)
        _print(answer, as_json)


@recommend.command()
@click.option(
    "--input",
    "lines",
    type=click.File(encoding="utf-8", errors="surrogateescape"),
    default="-",
    show_default="standard input",
    help="File with one JSON object per line, each a user.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Number of requests that may run at once.",
)
@_connection_options
def many(lines: TextIO, concurrency: int, k: int, **connection: Any) -> None:
    """Recommend items to many users: JSON lines in, JSON lines out.

    A line holds any of "history", "exclude" and user features. Answers come in the order of the
    lines, each with the line's "user_id".

    \b
    echo '{"user_id": "7", "history": ["50", "181"], "age": 24}' | cmclrec recommend many
    """
    options = _client_options(connection)
    import asyncio

    from serving.client import AsyncClient

    async def run() -> None:
        async with AsyncClient(concurrency=concurrency, **options) as client:
            first = 1
            while chunk := list(itertools.islice(lines, _CHUNK)):
                users = [_parsed_line(line, number) for number, line in enumerate(chunk, first)]
                keys = [{"user_id": u.pop("user_id")} if "user_id" in u else {} for u in users]
                answers = await client.recommend_many(users, k, first)
                for key, answer in zip(keys, answers, strict=True):
                    click.echo(_json_line(answer, **key))
                first += len(chunk)

    asyncio.run(run())


def _parsed_line(line: str, number: int) -> dict[str, Any]:
    try:
        user = json.loads(line)
    except (ValueError, RecursionError):
        user = None
    if not isinstance(user, dict):
        raise InputError(
            f"user {number}", "its line must hold a JSON object", "Correct the line's JSON."
        )
    return user


def _parsed_features(features: Sequence[str]) -> dict[str, str | list[str]]:
    values: dict[str, list[str]] = {}
    for feature in features:
        name, equals, value = feature.partition("=")
        if not (name and equals):
            raise click.BadParameter(
                "a feature is written NAME=VALUE, such as age=24.", param_hint="--feature"
            )
        values.setdefault(name, []).append(value)
    return {name: tokens if len(tokens) > 1 else tokens[0] for name, tokens in values.items()}


def _client(connection: dict[str, Any]) -> "Client":
    options = _client_options(connection)
    from serving.client import Client

    return Client(**options)


def _client_options(connection: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a client and silences the imports that it needs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    console.quiet_imports()
    tls = connection.pop("tls")
    if tls and connection["root_certificates"] is None:
        import grpc

        connection["credentials"] = grpc.ssl_channel_credentials()
    return connection


def _json_line(answer: "Recommendations", **fields: Any) -> str:
    return json.dumps(
        {
            **fields,
            "item_ids": answer.item_ids,
            "scores": answer.scores,
            "version": answer.version,
            "signature": answer.signature,
            "is_cold": answer.is_cold,
        }
    )


def _print(answer: "Recommendations", as_json: bool) -> None:
    if as_json:
        click.echo(_json_line(answer))
        return
    if not answer.item_ids:
        click.echo("No items are left to recommend.")
    width = max(map(len, answer.item_ids), default=0)
    pairs = zip(answer.item_ids, answer.scores, strict=True)
    for rank, (item, score) in enumerate(pairs, 1):
        line = f"{rank:>3}  {item:<{width}}  {score:.4f}"
        # Bytes of an id that are not UTF-8 cannot be printed.
        click.echo(line.encode("utf-8", "replace").decode())

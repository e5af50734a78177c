"""Implements `cmclrec recommend`, which requests recommendations from a running server."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cmclrec_tf.cli import ReadableGroup
from serving.commands import answer_text, console, user_lines
from serving.contract import HOST, MODEL_NAME, PORT

if TYPE_CHECKING:
    from serving.client import Client


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


def _refuse_explain(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            "--explain shows the history that the model simulates from user features, so only "
            "lists of `cold` have it. Run `cmclrec recommend cold --explain --feature NAME=VALUE`."
        )


_no_explain_option = click.option(
    "--explain", is_flag=True, hidden=True, expose_value=False, callback=_refuse_explain
)


@recommend.command()
@_item_option(required=True)
@_no_explain_option
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
        answer_text.print_answer(client.warm([items], exclude=[exclude], k=k)[0], as_json, items)


@recommend.command()
@_feature_option
@_exclude_option
@click.option(
    "--explain",
    is_flag=True,
    help="Print the history that the model simulates for the user, below the list.",
)
@_json_option
@_connection_options
def cold(
    features: Sequence[str],
    exclude: Sequence[str],
    explain: bool,
    as_json: bool,
    k: int,
    **connection: Any,
) -> None:
    """Recommend items to a user without a history, from user features alone.

    \b
    cmclrec recommend cold --feature age=24 --feature gender=F --explain
    """
    user = _parsed_features(features)
    with _client(connection) as client:
        (answer,) = client.cold([user], exclude=[exclude], k=k)
        simulated = client.simulated_history(user) if explain else None
        answer_text.print_answer(answer, as_json, simulated=simulated)


@recommend.command()
@_item_option(required=False)
@_no_explain_option
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
        answer_text.print_answer(answer, as_json, items)


@recommend.command()
@click.option(
    "--input",
    "lines",
    type=click.File("rb"),
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
@_no_explain_option
@_connection_options
def many(lines: BinaryIO, concurrency: int, k: int, **connection: Any) -> None:
    """Recommend items to many users: JSON lines in, JSON lines out.

    A line holds any of "history", "exclude" and user features. Answers come in the order of the
    lines, each with the line's "user_id". A line that is wrong gets {"error": ...} as its answer,
    and the exit status is 1. If the server fails, the exit status is 2.

    \b
    echo '{"user_id": "7", "history": ["50", "181"], "age": 24}' | cmclrec recommend many
    """
    options = _client_options(connection)
    import asyncio

    from serving.client import AsyncClient

    async def run() -> tuple[int, int]:
        total = failed = 0
        async with AsyncClient(concurrency=concurrency, **options) as client:
            for group in user_lines.groups(lines):
                keys, users = zip(*group, strict=True)
                answers = await client.recommend_each(users, k, total + 1)
                for key, answer in zip(keys, answers, strict=True):
                    click.echo(user_lines.answer_line(answer, **key))
                total += len(answers)
                failed += sum(isinstance(answer, Exception) for answer in answers)
        return total, failed

    total, failed = asyncio.run(run())
    if failed:
        click.echo(
            f'error: {failed} of {total} users have no list. See "error" in their lines.', err=True
        )
        click.get_current_context().exit(1)


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

"""Serves a pushed model and prints what it recommends to real users of the test split."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from cmclrec_tf import schema
from cmclrec_tf.errors import InputError
from pipeline.commands.run_report import printable, texts
from pipeline.commands.run_results import Run
from pipeline.datasets import titles
from pipeline.storage.records import ParsedRecord, Profile, parse, profile, read
from serving.client.sync import Client
from serving.contract import HOST, MODEL_NAME
from serving.server.local_server import LocalServer

LIST_LENGTH = 10
HISTORY_LENGTH = 5


def show_recommendations(run: Run, port: int = 0) -> None:
    """Serves the pushed version on loopback and prints recommendations for three users.

    One user has a history, which goes to the signature `warm`. Two new users have different
    features, which go to `cold`. A test split with one cold user shows only that one.

    Args:
        run: a run that pushed its model.
        port: port of the server; 0 takes any free one.

    Raises:
        InputError: the port is in use, the version does not load, or the test split has no warm or
            no cold user.
    """
    item_titles = titles(run.spec, run.data_dir)
    history, new_users = _users(run)
    profiles = [profile(user, run.spec.features) for user in new_users]
    version = run.pushed_version
    assert version is not None
    with LocalServer(str(run.folders.serving), MODEL_NAME, port=port) as server:
        if server.version != int(version.name):
            # The server falls back to an older version, which is not the one to show.
            raise InputError(
                version,
                f"it must load, but only version {server.version} does",
                "Remove the folder and run again, which pushes the model again.",
            )
        click.echo(f"\nServing version {version.name} on {HOST}:{server.port}")
        with Client(f"{HOST}:{server.port}", MODEL_NAME) as client:
            (warm_list,) = client.warm([history], k=LIST_LENGTH)
            cold_lists = client.cold(profiles, k=LIST_LENGTH)

    click.echo(f"\nA user with a history of {len(history)} items, the last ones of which are")
    click.echo(_lines(history[-HISTORY_LENGTH:], item_titles))
    click.echo("is recommended")
    click.echo(_lines(warm_list.item_ids, item_titles, numbered=True))
    for features, answer in zip(profiles, cold_lists, strict=True):
        click.echo(f"\nA new user with no history and the features {_line(features)}")
        click.echo("is recommended")
        click.echo(_lines(answer.item_ids, item_titles, numbered=True))
    if len(cold_lists) < 2:
        return
    first, second = (answer.item_ids for answer in cold_lists)
    same = "the same list" if first == second else "different lists"
    shared = len(set(first) & set(second))
    click.echo(f"\nThe two new users get {same}; they share {shared} of {len(first)} titles.")


def first_profile(run: Run) -> Profile:
    """Returns the known user features of one cold user of the test split."""
    _, (user, *_) = _users(run)
    return profile(user, run.spec.features)


def _users(run: Run) -> tuple[list[str], list[ParsedRecord]]:
    """Returns the history of a warm test user, and one or two cold test users.

    The second cold user is the one whose features differ most from the first one's.
    """
    history: list[str] = []
    cold: list[ParsedRecord] = []
    for record in read(map(str, run.test_files)):
        user = parse(record)
        segment = user[schema.SEGMENT][0].decode()
        if segment == schema.COLD:
            cold.append(user)
        elif not history:
            history = [item.decode("utf-8", "surrogateescape") for item in user[schema.HISTORY]]
    if not history or not cold:
        raise InputError(
            f"the test split of {run.spec.name}",
            "the quickstart needs a warm and a cold user in it",
            "Use more data or a larger data.test_share.",
        )
    names = [feature.name for feature in run.spec.features]

    def difference(user: ParsedRecord) -> int:
        return sum(user.get(name) != cold[0].get(name) for name in names)

    return history, [cold[0], *sorted(cold[1:], key=difference, reverse=True)[:1]]


def _line(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {' and '.join(texts(value))}" for name, value in features.items())


def _lines(item_ids: Iterable[str], item_titles: Mapping[str, str], numbered: bool = False) -> str:
    """Returns the titles of items, one per line."""
    lines = [printable(item_titles.get(item, item)) for item in item_ids]
    return "\n".join(
        f"  {i:2d}. {line}" if numbered else f"      {line}" for i, line in enumerate(lines, 1)
    )

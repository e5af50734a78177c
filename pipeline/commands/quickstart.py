"""Asks a pushed model what it recommends to real users of the test split."""

import click

from cmclrec_tf import schema
from cmclrec_tf.errors import InputError
from pipeline.commands.run_report import printable, texts
from pipeline.datasets import titles
from pipeline.storage.records import parse, profile, read
from serving.client import Client
from serving.contract import MODEL_NAME
from serving.server.local_server import LocalServer

SHOWN = 10


def ask(run, port=0) -> None:
    """Serves the pushed version on loopback and prints what `warm` and `cold` answer.

    Asks `warm` for one user with a history and `cold` for two new users of different profiles, or
    for the only one that the test split has.

    Args:
        run: `pipeline.commands.run.Run` whose model was pushed.
        port: of the server; 0 takes a free one.

    Raises:
        InputError: the port is in use, the pushed version does not load, or the test split lacks a
            segment.
    """
    names = titles(run.spec, run.data_dir)
    warm, new = _users(run)
    profiles = [profile(user, run.spec.features) for user in new]
    with LocalServer(str(run.folders.serving), MODEL_NAME, port=port) as server:
        if server.version != int(run.pushed.name):
            # An older version serves where the newest cannot: not what is asked here.
            raise InputError(
                run.pushed,
                f"it must load, but version {server.version} is what could be served",
                "Remove the folder and run again: it is pushed anew.",
            )
        click.echo(f"\nServing version {run.pushed.name} on 127.0.0.1:{server.port}")
        with Client(f"127.0.0.1:{server.port}", MODEL_NAME) as client:
            (listed,) = client.warm([warm], k=SHOWN)
            new_lists = client.cold(profiles, k=SHOWN)

    click.echo(f"\nA warm user, who last chose (newest last, {len(warm)} known):")
    click.echo(_titled(warm[-5:], names))
    click.echo("is recommended")
    click.echo(_titled(listed.item_ids, names, numbered=True))
    for known, answer in zip(profiles, new_lists, strict=True):
        click.echo(f"\nA new user, of whom only this is known: {_line(known)}")
        click.echo("is recommended")
        click.echo(_titled(answer.item_ids, names, numbered=True))
    if len(new_lists) < 2:
        return
    first, second = (answer.item_ids for answer in new_lists)
    same = "the same list" if first == second else "different lists"
    shared = len(set(first) & set(second))
    click.echo(f"\nThe two new users get {same}; they share {shared} of {len(first)} titles.")


def first_profile(run):
    """The user features of one real new user: `{feature: value}`, what is missing left out."""
    _, (user, *_) = _users(run)
    return profile(user, run.spec.features)


def _users(run):
    """History of a warm test user; the first cold one and, if any, who differs the most from it."""
    warm, cold = [], []
    for record in read(run.test_files):
        user = parse(record)
        segment = user[schema.SEGMENT][0].decode()
        if segment == schema.COLD:
            cold.append(user)
        elif not warm:
            warm = [item.decode("utf-8", "surrogateescape") for item in user[schema.HISTORY]]
    if not warm or not cold:
        raise InputError(
            f"the test split of {run.spec.name}",
            "showing an answer needs a warm and a cold user",
            "Use more data or a larger data.test_share.",
        )
    names = [feature.name for feature in run.spec.features]
    differs = lambda user: sum(user.get(n) != cold[0].get(n) for n in names)
    return warm, [cold[0], *sorted(cold[1:], key=differs, reverse=True)[:1]]


def _line(known):
    return ", ".join(f"{name} {' and '.join(texts(value))}" for name, value in known.items())


def _titled(item_ids, names, numbered=False):
    lines = [printable(names.get(item, item)) for item in item_ids]
    return "\n".join(
        f"  {i:2d}. {line}" if numbered else f"      {line}" for i, line in enumerate(lines, 1)
    )

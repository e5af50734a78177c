"""Prints answers for a terminal, or as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from serving.commands import user_lines

if TYPE_CHECKING:
    from serving.client import Recommendations, SimulatedHistory

_SOURCES = {
    "history": "the list comes from them.",
    "features": "the list comes from the user features.",
    "popular": "the list is that of the most popular items.",
    None: "",
}


def print_answer(
    answer: "Recommendations",
    as_json: bool,
    history: Sequence[str] = (),
    simulated: "SimulatedHistory | None" = None,
) -> None:
    """Prints a list of items, and the simulated history that it comes from.

    Args:
        answer: the list.
        as_json: whether to print one JSON object.
        history: the history that was sent; a note says if the model does not know all of it.
        simulated: the simulated history, to explain the list; None prints none.
    """
    if as_json:
        click.echo(user_lines.answer_line(answer, simulated))
        return
    if answer.known_items is not None and answer.known_items < len(history):
        click.echo(
            f"note: the model knows {answer.known_items} of {len(history)} items of the history; "
            f"{_SOURCES[answer.source]}",
            err=True,
        )
    if not answer.item_ids:
        click.echo("No items are left to recommend.")
    names = [_printable(item) for item in answer.item_ids]
    width = max(map(len, names), default=0)
    for rank, (name, score) in enumerate(zip(names, answer.scores, strict=True), 1):
        click.echo(f"{rank:>3}  {name:<{width}}  {score:.4f}".encode())
    if simulated is not None:
        _print_simulated(simulated)


def _print_simulated(simulated: "SimulatedHistory") -> None:
    """Prints one line for each simulated position, with the nearest items and their cosines."""
    click.echo(
        "\nThe history that the model simulates for this user, newest last: the nearest items of\n"
        "each position, with cosines (1 is the item itself)."
    )
    for place, (items, scores) in enumerate(
        zip(simulated.item_ids, simulated.scores, strict=True), 1
    ):
        pairs = zip(map(_printable, items), scores, strict=True)
        click.echo(f"{place:>3}  {'  '.join(f'{n} {score:.2f}' for n, score in pairs)}".encode())


def _printable(item: str) -> str:
    """Returns an id without characters that a terminal cannot show or would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in item)

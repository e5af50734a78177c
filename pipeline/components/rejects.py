"""Reads the malformed rows that were left out, and checks that they are not too many."""

import collections
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tfx.dsl.io import fileio

from cmclrec_tf.errors import InputError
from pipeline.storage.text_files import row_number

if TYPE_CHECKING:
    from tfx.types import Artifact

_FOLDER = "rejects"

Reject: TypeAlias = dict[str, str]
"""A malformed row, see `pipeline.transforms.read_tables.ReadTable`."""


def rejects_folder(examples: "Artifact") -> str:
    """Returns the folder of the malformed rows that were left out of an `examples` artifact."""
    return os.path.join(examples.uri, _FOLDER)


def kept_folder(examples: "Artifact") -> str:
    """Returns the folder for the malformed rows of an `examples` artifact that is removed."""
    outputs, execution = os.path.split(examples.uri.rstrip("/"))
    return os.path.join(os.path.dirname(outputs), _FOLDER, execution)


def copy(folder: str, target: str) -> None:
    """Copies the rejects of a folder to another one; a missing folder has none."""
    for path in _paths(folder):
        fileio.makedirs(target)
        fileio.copy(path, os.path.join(target, os.path.basename(path)), overwrite=True)


def read(folder: str) -> list[Reject]:
    """Reads the rejects of a folder in the order of their places; a missing folder has none."""
    return sorted(_each(folder), key=lambda reject: (reject["table"], _natural(reject["place"])))


class Summary(NamedTuple):
    """How many malformed rows there are, and by which rules.

    Attributes:
        folder: folder that holds them.
        counts: number of rows by table and rule, the most frequent ones first.
        places: the first place by table and rule.
    """

    folder: str
    counts: dict[tuple[str, str], int]
    places: dict[tuple[str, str], str]

    @property
    def total(self) -> int:
        """The number of malformed rows."""
        return sum(self.counts.values())

    def most_frequent(self) -> str:
        """Returns the most frequent rule, with the number of a row that breaks it."""
        for (table, rule), count in self.counts.items():
            where = _for_people(self.places[table, rule])
            return f"{count} rows of {table}: {rule}, for example {where}"
        return ""

    def report(self) -> list[str]:
        """Returns a line with the number of rows for each table and rule, most frequent first."""
        return [f"{table}: {n} rows: {rule}" for (table, rule), n in self.counts.items()]

    def check(self, most: int) -> None:
        """Checks that there are at most `most` malformed rows.

        Raises:
            InputError: there are more; the error has the most frequent rule, a row and the folder.
        """
        if self.total > most:
            raise InputError(
                f"{self.total} malformed rows",
                f"at most max_rejects={most} may be left out (the most frequent fault: "
                f"{self.most_frequent()})",
                f"Correct the rows, which are in {self.folder}, or the dataset spec, or raise "
                "max_rejects there.",
            )


NO_ROWS = Summary("", {}, {})


def summarize(folder: str) -> Summary:
    """Counts the malformed rows in a folder, without holding them; a missing folder has none."""
    counts = collections.Counter[tuple[str, str]]()
    places: dict[tuple[str, str], str] = {}
    for reject in _each(folder):
        kind = reject["table"], reject["rule"]
        counts[kind] += 1
        places[kind] = min(places.get(kind, reject["place"]), reject["place"], key=_natural)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Summary(folder, dict(by_count), places)


def _each(folder: str) -> Iterator[Reject]:
    for path in _paths(folder):
        with fileio.open(path) as file:
            yield from map(json.loads, file)


def _paths(folder: str) -> list[str]:
    return sorted(map(str, fileio.glob(os.path.join(folder, "*.jsonl"))))


def _for_people(place):
    """Names a row by its number, which people can look up, and not by its first byte."""
    kind, number, rest = place.split(" ", 2)
    path = rest.removeprefix("of ")
    if kind != "byte":
        return place
    try:
        return f"row {row_number(path, int(number))} of {path}"
    except (InputError, OSError):
        # The file may be on another machine than this one.
        return place


def _natural(place):
    """Returns a key that sorts "byte 9" before "byte 10"."""
    kind, number, rest = place.split(" ", 2)
    return rest, kind, int(number)

"""Reads the malformed rows that were left out, and checks that they are not too many."""

import collections
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from tfx.dsl.io import fileio

from cmclrec_tf.errors import InputError

if TYPE_CHECKING:
    from tfx.types import Artifact

_FOLDER = "rejects"
_EXAMPLES = 3

Reject: TypeAlias = dict[str, str]
"""A malformed row, see `pipeline.transforms.read_tables.ReadTable`."""


def rejects_folder(examples: "Artifact") -> str:
    """Returns the folder of the malformed rows that were left out of an `examples` artifact."""
    return os.path.join(examples.uri, _FOLDER)


def read(folder: str) -> list[Reject]:
    """Reads the rejects of a folder in the order of their places; a missing folder has none."""
    rejects: list[Reject] = []
    for path in sorted(fileio.glob(os.path.join(folder, "*.jsonl"))):
        with fileio.open(path) as file:
            rejects += map(json.loads, file)
    return sorted(rejects, key=lambda reject: (reject["table"], _natural(reject["place"])))


def report(rejects: Sequence[Reject]) -> list[str]:
    """Returns one line for each table and rule, with the number of rows that break the rule."""
    counts = collections.Counter((reject["table"], reject["rule"]) for reject in rejects)
    return [f"{table}: {n} rows: {rule}" for (table, rule), n in sorted(counts.items())]


def check(rejects: Sequence[Reject], most: int, folder: str) -> None:
    """Checks the number of malformed rows.

    Args:
        rejects: the malformed rows.
        most: how many are allowed.
        folder: folder that holds them, for the error.

    Raises:
        InputError: there are more; the error names the first ones and the folder.
    """
    if len(rejects) > most:
        first = "; ".join(f"{reject['place']}: {reject['rule']}" for reject in rejects[:_EXAMPLES])
        raise InputError(
            f"{len(rejects)} malformed rows",
            f"at most max_rejects={most} may be left out (the first: {first})",
            f"Correct the rows, which are in {folder}, or raise max_rejects in the dataset spec.",
        )


def _natural(place):
    """Returns a key that sorts "byte 9" before "byte 10"."""
    kind, number, rest = place.split(" ", 2)
    return rest, kind, int(number)

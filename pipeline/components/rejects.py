"""Malformed rows that were left out: how many are too many."""

import collections
import json
import os

from tfx.dsl.io import fileio

from cmclrec_tf.errors import InputError

_SHOWN = 3


def read(folder):
    """The rejects of a folder, see `pipeline.transforms.read_tables`, in the order of their places.

    Returns:
        list of dicts; empty when there is no folder.
    """
    found = []
    for path in sorted(fileio.glob(os.path.join(folder, "*.jsonl"))):
        with fileio.open(path) as file:
            found += map(json.loads, file)
    return sorted(found, key=lambda reject: (reject["table"], _natural(reject["place"])))


def report(rejects):
    """A line for each table and rule, with the number of rows that break it."""
    counted = collections.Counter((reject["table"], reject["rule"]) for reject in rejects)
    return [f"{table}: {n} rows: {rule}" for (table, rule), n in sorted(counted.items())]


def check(rejects, most, folder) -> None:
    """Looks at the number of malformed rows.

    Raises:
        InputError: more than `most`; names the first ones and the folder that holds all of them.
    """
    if len(rejects) > most:
        first = "; ".join(f"{reject['place']}: {reject['rule']}" for reject in rejects[:_SHOWN])
        raise InputError(
            f"{len(rejects)} malformed rows",
            f"max_rejects={most} allows fewer (the first: {first})",
            f"Correct the rows, which are in {folder}, or raise max_rejects in the dataset spec.",
        )


def _natural(place):
    """Sorts "byte 9" before "byte 10"."""
    kind, number, rest = place.split(" ", 2)
    return rest, kind, int(number)

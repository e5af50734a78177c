"""Users made up in the size of KuaiRand-Pure, for whoever trains on them."""

import numpy as np

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.schema import Feature

LENGTH, ITEMS, FIELDS, VALUES = 50, 5000, 25, 20


def histories(users):
    """Whole histories and their next items, so that padding plays no part: [users, LENGTH + 1].

    Items are drawn by Zipf's law of their rank, and numbered from 0; the same ones in every call.
    """
    chances = 1 / np.arange(1, ITEMS + 1)
    shape = (users, LENGTH + 1)
    return np.random.default_rng(0).choice(ITEMS, shape, p=chances / chances.sum())


def every_item(items):
    """Histories and next items that hold every item once: [ceil(items / (LENGTH + 1)), LENGTH + 1].

    The last one is filled up with the first items.
    """
    users = -(-items // (LENGTH + 1))
    return (np.arange(users * (LENGTH + 1)) % items).reshape(users, LENGTH + 1)


def prepared(folder, drawn):
    """The `PreparedDataset` of histories, with FIELDS user features of VALUES values each.

    Args:
        folder: new; records are written there.
        drawn: [users, LENGTH + 1] item numbers, the last one the next item.
    """
    rng = np.random.default_rng(1)
    profiles = rng.integers(0, VALUES, (len(drawn), FIELDS))
    rows = [
        {
            "user_id": f"u{number}",
            "history": [f"i{item}" for item in row[:-1]],
            "target": [f"i{row[-1]}"],
            "segment": "warm",
            **{f"f{field}": f"v{value}" for field, value in enumerate(profile)},
        }
        for number, (row, profile) in enumerate(zip(drawn, profiles, strict=True))
    ]
    features = tuple(Feature(f"f{field}") for field in range(FIELDS))
    tables = {"train": rows, "val": rows[:64], "test": rows[:64]}
    return prepare_tables(tables, features, folder, max_history=LENGTH, name="benchmark")

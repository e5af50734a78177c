"""Users made up in the size of KuaiRand-Pure, for whoever trains on them."""

import numpy as np

from cmclrec_tf.schema import Feature
from cmclrec_tf.tables import prepare_tables

LENGTH, ITEMS, FIELDS, VALUES = 50, 5000, 25, 20


def histories(users, length=LENGTH, items=ITEMS, seed=0):
    """Whole histories and their next items, so that padding plays no part: [users, length + 1].

    Items are drawn by Zipf's law of their rank, and numbered from 0.
    """
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, items + 1)
    return rng.choice(items, (users, length + 1), p=chances / chances.sum())


def every_item(items, length=LENGTH):
    """Histories and next items that hold every item once: [ceil(items / (length + 1)), length + 1].

    The last one is filled up with the first items.
    """
    users = -(-items // (length + 1))
    return (np.arange(users * (length + 1)) % items).reshape(users, length + 1)


def prepared(folder, drawn, seed=0):
    """The `PreparedDataset` of histories, with FIELDS user features of VALUES values each.

    Args:
        folder: new; records are written there.
        drawn: [users, length + 1] item numbers, the last one the next item.
    """
    rng = np.random.default_rng(seed + 1)
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
    length = drawn.shape[1] - 1
    return prepare_tables(tables, features, folder, max_history=length, name="benchmark")

"""Makes a synthetic dataset of the size of KuaiRand-Pure for the benchmarks."""

import os

import numpy as np

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.schema import Feature

LENGTH, ITEMS, FIELDS, VALUES = 50, 5000, 25, 20


def histories(users: int, length: int = LENGTH) -> np.ndarray:
    """Returns random full-length histories with their next items, [users, length + 1].

    The items are numbered from 0 and follow Zipf's law. Every call returns the same histories.
    """
    chances = 1 / np.arange(1, ITEMS + 1)
    shape = (users, length + 1)
    return np.random.default_rng(0).choice(ITEMS, shape, p=chances / chances.sum())


def every_item(items: int) -> np.ndarray:
    """Returns histories with their next items in which every item occurs.

    The shape is [ceil(items / (LENGTH + 1)), LENGTH + 1]; the last row ends with the first items.
    """
    users = -(-items // (LENGTH + 1))
    return (np.arange(users * (LENGTH + 1)) % items).reshape(users, LENGTH + 1)


def prepared(folder: str | os.PathLike[str], items: np.ndarray) -> PreparedDataset:
    """Writes a prepared dataset with FIELDS random user features of VALUES values each.

    Args:
        folder: new folder for the records.
        items: item numbers [users, L + 1]; the last column is the next item.

    Returns:
        The dataset.
    """
    rng = np.random.default_rng(1)
    profiles = rng.integers(0, VALUES, (len(items), FIELDS))
    rows = [
        {
            "user_id": f"u{number}",
            "history": [f"i{item}" for item in row[:-1]],
            "target": [f"i{row[-1]}"],
            "segment": "warm",
            **{f"f{field}": f"v{value}" for field, value in enumerate(profile)},
        }
        for number, (row, profile) in enumerate(zip(items, profiles, strict=True))
    ]
    features = tuple(Feature(f"f{field}") for field in range(FIELDS))
    tables = {"train": rows, "val": rows[:64], "test": rows[:64]}
    length = items.shape[1] - 1
    return prepare_tables(tables, features, folder, max_history=length, name="benchmark")

"""Builds a small synthetic dataset to try models on without downloading anything."""

import atexit
import functools
import shutil
import tempfile
from typing import Any

import numpy as np

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.schema import COLD, NUMERIC, TEST, TRAIN, VAL, WARM, Feature

GROUPS = ("books", "films", "games")
ITEMS_PER_GROUP = 10
FEATURES = (Feature("group"), Feature("age", NUMERIC))


@functools.cache
def toy_dataset(users: int = 64, seed: int = 0) -> PreparedDataset:
    """Returns a dataset whose users take only items of their own group.

    The group is also a user feature, so a model can learn to recommend to warm and to cold users.
    There are 30 items. A second feature, `age`, is a number that some users lack.

    Args:
        users: number of train users; half as many are for validation, and as many for test, where
            every second user is cold.
        seed: seeds the users and their items.

    Returns:
        `PreparedDataset` with histories of up to 6 items. It lies in a temporary folder that is
        removed when the process ends.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> data.users
        {'train': 64, 'val': 32, 'test': 32}
        >>> next(iter(data.batches("test", 4)))["history"].shape
        TensorShape([4, 6])
    """
    rng = np.random.default_rng(seed)
    sizes = {TRAIN: users, VAL: users // 2, TEST: users // 2}
    records = {
        split: [_record(f"{split}{i}", rng, split == TEST and i % 2 == 1) for i in range(size)]
        for split, size in sizes.items()
    }
    folder = tempfile.mkdtemp(prefix="cmclrec-toy-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return prepare_tables(records, FEATURES, folder, max_history=6, name="toy")


def _record(user_id: str, rng: np.random.Generator, is_cold: bool) -> dict[str, Any]:
    group = GROUPS[rng.integers(len(GROUPS))]
    numbers = rng.choice(ITEMS_PER_GROUP, rng.integers(3, 7), replace=False)
    *history, target = [f"{group}-{number}" for number in numbers]
    return {
        "user_id": user_id,
        "history": [] if is_cold else history,
        "target": [target],
        "segment": COLD if is_cold else WARM,
        "group": group,
        "age": None if rng.random() < 0.2 else float(rng.integers(18, 80)),
    }

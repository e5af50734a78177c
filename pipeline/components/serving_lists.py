"""Checks the lists of items that an exported model returns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from serving.contract import ITEM_IDS, SCORES

# Batches of different shapes may be rounded differently in the last bits.
TOLERANCE = 1e-4

Arrays: TypeAlias = dict[str, Any]
"""Arrays by name, as a signature takes and returns them."""


def list_faults(
    name: str, answer: Arrays, hidden: Sequence[Iterable[bytes]], items: frozenset[bytes], k: int
) -> Iterator[str]:
    """Checks lists of items; yields at most one fault of the items.

    Args:
        name: name of the call, for the reasons.
        answer: the outputs.
        hidden: the items of each user that must not come back.
        items: every item id that may come back.
        k: length of the lists.
    """
    ids, scores = np.asarray(answer[ITEM_IDS]), np.asarray(answer[SCORES])
    shape = (len(hidden), k)
    if ids.shape != shape or scores.shape != shape:
        yield f"{name}: lists are {ids.shape} and scores {scores.shape}, expected {shape}"
        return
    if not np.isfinite(scores).all():
        yield f"{name}: scores are not finite"
    elif (np.diff(scores, axis=1) > 0).any():
        yield f"{name}: scores increase along a list"
    for row, hidden_items in zip(ids, map(set, hidden), strict=True):
        listed = [item for item in row if item]
        length = min(k, len(items - hidden_items))
        if not items.issuperset(listed):
            yield f"{name}: an item that is not in the vocabulary"
        elif len(set(listed)) < len(listed):
            yield f"{name}: an item twice in a list"
        elif hidden_items.intersection(listed):
            yield f"{name}: an item of the history or of exclude came back"
        elif len(listed) != length or any(row[len(listed) :]):
            yield f"{name}: {len(listed)} items in a list, expected {length}"
        else:
            continue
        return


def position_faults(
    name: str, answer: Arrays, rows: int, items: frozenset[bytes], nearest: int
) -> Iterator[str]:
    """Checks the nearest items of simulated positions.

    Args:
        name: name of the call, for the reasons.
        answer: the outputs.
        rows: number of users.
        items: every item id that may come back.
        nearest: number of items of each position.
    """
    ids, scores = np.asarray(answer[ITEM_IDS]), np.asarray(answer[SCORES])
    is_fit = ids.ndim == 3 and ids.shape == scores.shape and ids.shape[1] > 0
    if not is_fit or (ids.shape[0], ids.shape[2]) != (rows, nearest):
        yield (
            f"{name}: items are {ids.shape} and scores {scores.shape}, expected "
            f"({rows}, S, {nearest}) with at least one position S"
        )
        return
    flat = {ITEM_IDS: ids.reshape(-1, nearest), SCORES: scores.reshape(-1, nearest)}
    yield from list_faults(name, flat, [()] * len(flat[ITEM_IDS]), items, nearest)
    if (np.abs(scores) > 1 + TOLERANCE).any():
        yield f"{name}: scores are not cosines, which lie between -1 and 1"


def same_lists(a: Arrays, b: Arrays) -> bool:
    """Compares lists; items may swap places if their scores tie within the tolerance."""
    scores = np.asarray(b[SCORES])
    if a[SCORES].shape != scores.shape or not np.allclose(
        a[SCORES], scores, rtol=TOLERANCE, atol=TOLERANCE
    ):
        return False
    moved = np.asarray(a[ITEM_IDS]) != np.asarray(b[ITEM_IDS])
    gaps = np.abs(np.diff(scores, axis=1, prepend=np.inf, append=-np.inf))
    tied = np.minimum(gaps[:, :-1], gaps[:, 1:]) <= 2 * TOLERANCE * (1 + np.abs(scores))
    # The last item may tie with items beyond the list, which are not visible here.
    tied[:, -1] = True
    return bool((~moved | tied).all())

"""Ranking metrics over top-K lists in NumPy: one row per user, nothing rounded.

Lists and relevant items are arrays of one dtype, ids or strings. A relevant item that a model
cannot recommend counts as a miss. Source of NDCG: Järvelin and Kekäläinen, TOIS 20(4), 2002.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int_]
Floats: TypeAlias = npt.NDArray[np.float64]

# A metric of users: hits [n, K], numbers of relevant items [n] and k -> values [n].
Metric: TypeAlias = Callable[[Bools, Ints, int], Floats]

# `mean_jaccard` samples this many users: they form 8 million pairs.
PAIRED = 4096
_BLOCK = 256


def hits(recommended: npt.ArrayLike, relevant: Sequence[npt.ArrayLike]) -> tuple[Bools, Ints]:
    """Marks which recommended items are relevant.

    Args:
        recommended: [n, K] items, best first, no item twice in a user's list.
        relevant: n arrays of relevant items.

    Returns:
        The hits, bool [n, K], and the number of distinct relevant items of each user, int [n].

    Example:
        >>> hit, n_relevant = hits([["tea", "milk"], ["tea", "bread"]], [["milk"], ["jam", "tea"]])
        >>> hit.tolist(), n_relevant.tolist()
        ([[False, True], [True, False]], [1, 2])
    """
    recommended = np.asarray(recommended)
    rows, k = recommended.shape
    sets = [np.asarray(items) for items in relevant]
    lengths = np.array([len(items) for items in sets], int)
    if len(lengths) != rows:
        raise ValueError(f"{rows} lists and {len(lengths)} sets of relevant items")
    items, codes = np.unique(
        np.concatenate([recommended.ravel(), np.concatenate(sets)]), return_inverse=True
    )
    # Every pair of a row and an item gets a number of its own.
    listed = codes[: rows * k].reshape(rows, k) + len(items) * np.arange(rows)[:, None]
    targets = np.unique(codes[rows * k :] + len(items) * np.repeat(np.arange(rows), lengths))
    return np.isin(listed, targets), np.bincount(targets // len(items), minlength=rows)


def recall(hit: Bools, n_relevant: Ints, k: int) -> Floats:
    """Recall@K = |hits in the first K| / |relevant|, float [n].

    Args:
        hit: bool [n, K], see `hits`.
        n_relevant: int [n], see `hits`.
        k: length at which the lists are cut.

    Example:
        >>> recall(np.array([[True, False, True]]), np.array([4]), k=3).tolist()
        [0.5]
    """
    values: Floats = hit[:, :k].sum(axis=1) / np.maximum(n_relevant, 1)
    return values


def ndcg(hit: Bools, n_relevant: Ints, k: int) -> Floats:
    """NDCG@K = DCG@K / DCG@K of an ideal list of K items, float [n].

    Args:
        hit: bool [n, K], see `hits`.
        n_relevant: int [n], see `hits`.
        k: length at which the lists are cut.

    Example:
        >>> ndcg(np.array([[False, False, True]]), np.array([1]), k=3).tolist()  # 1 / log2(4)
        [0.5]
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gained = (hit[:, :k] * discounts[: hit.shape[1]]).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(n_relevant, k)]
    values: Floats = np.divide(gained, ideal, out=np.zeros_like(gained), where=ideal > 0)
    return values


def reciprocal_rank(hit: Bools) -> Floats:
    """Reciprocal rank of the first hit, 0 without a hit, float [n]; its mean is MRR.

    Args:
        hit: bool [n, K], see `hits`.

    Example:
        >>> reciprocal_rank(np.array([[False, True], [False, False]])).tolist()
        [0.5, 0.0]
    """
    return np.where(hit.any(axis=1), 1.0 / (1 + hit.argmax(axis=1)), 0.0)


def coverage(recommended: npt.ArrayLike, k: int, pad: int | None = None) -> int:
    """Returns the number of distinct items in the first K of all users' lists.

    Args:
        recommended: [n, K] items.
        k: length at which the lists are cut.
        pad: value that fills up short lists; it is not an item.

    Example:
        >>> coverage([[5, 3], [5, 0]], k=2, pad=0)
        2
    """
    items = np.unique(np.asarray(recommended)[:, :k])
    return int((items != pad).sum()) if pad is not None else len(items)


def mean_jaccard(recommended: npt.ArrayLike, k: int, pad: int | None = None) -> float:
    """Returns the mean Jaccard similarity of the first K items over all pairs of users.

    1 means that all users get the same items. With more than PAIRED users, a random sample of that
    many is compared, the same one in every call.

    Args:
        recommended: [n, K] items.
        k: length at which the lists are cut.
        pad: value that fills up short lists; it is not an item.

    Returns:
        The mean; NaN for fewer than two users.

    Example:
        >>> round(mean_jaccard([[5, 3], [5, 4]], k=2), 3)
        0.333
    """
    lists = np.asarray(recommended)[:, :k]
    if len(lists) > PAIRED:
        sample = np.random.default_rng(0).choice(len(lists), PAIRED, replace=False)
        lists = lists[np.sort(sample)]
    n = len(lists)
    if n < 2:
        return float("nan")
    items, inverse = np.unique(lists, return_inverse=True)
    codes: npt.NDArray[np.intp] = inverse.reshape(lists.shape)
    counted = items != pad if pad is not None else np.ones(len(items), bool)
    sizes = counted[codes].sum(axis=1)
    total = 0.0
    # The items of a block of users are marks [V, block]: time n^2 K, memory V times a block.
    for first in range(0, n, _BLOCK):
        block = codes[first : first + _BLOCK]
        marks = np.zeros((len(items), len(block)), np.int16)
        marks[block, np.arange(len(block))[:, None]] = 1
        marks[~counted] = 0
        common = np.zeros((n, len(block)), np.int16)
        for place in range(codes.shape[1]):
            common += marks[codes[:, place]]
        union = sizes[:, None] + sizes[first : first + _BLOCK] - common
        similarity = common / np.maximum(union, 1)
        total += similarity.sum() - np.trace(similarity[first : first + len(block)])
    return float(total / (n * (n - 1)))

"""Ranking metrics over top-K lists: plain NumPy, one row a user, nothing rounded.

Lists and relevant items are arrays of any one dtype (ids or strings). A relevant item that a model
cannot recommend counts as a miss. Source: Järvelin and Kekäläinen, TOIS 20(4), 2002, for NDCG.
"""

import numpy as np

# Users whose pairs are looked at: of 4,096 there are 8 million.
PAIRED = 4096
_BLOCK = 256


def hits(recommended, relevant):
    """Marks which recommended items are relevant.

    Args:
        recommended: [n, K] items, best first, no item twice in a row's list.
        relevant: n arrays of relevant items.

    Returns:
        bool [n, K] hits and int [n] numbers of distinct relevant items.
    """
    recommended = np.asarray(recommended)
    rows, k = recommended.shape
    lengths = np.array([len(items) for items in relevant], int)
    if len(lengths) != rows:
        raise ValueError(f"{rows} lists and {len(lengths)} sets of relevant items")
    right = np.concatenate([np.asarray(items) for items in relevant])
    items, codes = np.unique(np.concatenate([recommended.ravel(), right]), return_inverse=True)
    # A number for every pair of a row and an item.
    listed = codes[: rows * k].reshape(rows, k) + len(items) * np.arange(rows)[:, None]
    wanted = np.unique(codes[rows * k :] + len(items) * np.repeat(np.arange(rows), lengths))
    return np.isin(listed, wanted), np.bincount(wanted // len(items), minlength=rows)


def recall(hit, n_relevant, k):
    """Recall@K = |hits in the first K| / |relevant|, float [n]."""
    return hit[:, :k].sum(axis=1) / np.maximum(n_relevant, 1)


def ndcg(hit, n_relevant, k):
    """NDCG@K = DCG@K / the DCG@K of an ideal list, cut at K; float [n]."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gained = (hit[:, :k] * discounts[: hit.shape[1]]).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(n_relevant, k)]
    return np.divide(gained, ideal, out=np.zeros_like(gained), where=ideal > 0)


def reciprocal_rank(hit):
    """1 / rank of the first hit, 0 without one; float [n]."""
    return np.where(hit.any(axis=1), 1.0 / (1 + hit.argmax(axis=1)), 0.0)


def coverage(recommended, k, pad=None):
    """Number of distinct items in all users' first K; `pad`, the end of a short list, is none."""
    items = np.unique(np.asarray(recommended)[:, :k])
    return int((items != pad).sum()) if pad is not None else len(items)


def mean_jaccard(recommended, k, pad=None):
    """Mean Jaccard similarity of the first K items over all pairs of users.

    1 means that everybody gets the same items; NaN for fewer than two users. `pad`, the end of a
    short list, is no item. Of more than PAIRED users, as many drawn at random stand for all: the
    same ones in every call.
    """
    lists = np.asarray(recommended)[:, :k]
    if len(lists) > PAIRED:
        drawn = np.random.default_rng(0).choice(len(lists), PAIRED, replace=False)
        lists = lists[np.sort(drawn)]
    n = len(lists)
    if n < 2:
        return float("nan")
    items, codes = np.unique(lists, return_inverse=True)
    codes = codes.reshape(lists.shape)
    counted = items != pad if pad is not None else np.ones(len(items), bool)
    sizes = counted[codes].sum(axis=1)
    total = 0.0
    # What a block of users has as rows of marks [V, block]: time n^2 K, memory V times a block.
    for first in range(0, n, _BLOCK):
        block = codes[first : first + _BLOCK]
        marks = np.zeros((len(items), len(block)), np.int16)
        marks[block, np.arange(len(block))[:, None]] = 1
        marks[~counted] = 0
        common = np.zeros((n, len(block)), np.int16)
        for place in range(codes.shape[1]):
            common += marks[codes[:, place]]
        either = sizes[:, None] + sizes[first : first + _BLOCK] - common
        similarity = common / np.maximum(either, 1)
        total += similarity.sum() - np.trace(similarity[first : first + len(block)])
    return float(total / (n * (n - 1)))

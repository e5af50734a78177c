"""Ranking metrics over top-K lists: plain NumPy, one row a user, nothing rounded.

Lists and relevant items are arrays of any one dtype (ids or strings). A relevant item that a model
cannot recommend counts as a miss. Source: Järvelin and Kekäläinen, TOIS 20(4), 2002, for NDCG.
"""

import numpy as np


def hits(recommended, relevant):
    """Marks which recommended items are relevant.

    Args:
        recommended: [n, K] items, best first, no item twice in a row's list.
        relevant: n arrays of relevant items.

    Returns:
        bool [n, K] hits and int [n] numbers of distinct relevant items.
    """
    sets = [np.unique(np.asarray(items)) for items in relevant]
    marks = np.stack([np.isin(row, items) for row, items in zip(recommended, sets, strict=True)])
    return marks, np.array([len(items) for items in sets])


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
    short list, is no item.
    """
    lists = np.asarray(recommended)[:, :k]
    n = len(lists)
    if n < 2:
        return float("nan")
    items, codes = np.unique(lists, return_inverse=True)
    member = np.zeros((n, len(items)), np.float32)
    member[np.arange(n)[:, None], codes.reshape(lists.shape)] = 1
    if pad is not None:
        member[:, items == pad] = 0
    common = member @ member.T
    sizes = member.sum(axis=1)
    similarity = common / np.maximum(sizes[:, None] + sizes[None, :] - common, 1)
    return float((similarity.sum() - np.trace(similarity)) / (n * (n - 1)))

"""Evaluation by segment over the full catalogue."""

import dataclasses

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import metrics
from cmclrec_tf.schema import COLD, FIRST_ID, OOV, OVERALL, PAD, WARM


@dataclasses.dataclass(frozen=True)
class Report:
    """Metrics of one recommender.

    Attributes:
        rows: {segment: {metric: value}}, metrics named `recall@20`, `ndcg@20`, `coverage@20`,
            `jaccard@20`, `mrr`, `users`; for cold users also `recall_all@20` and `ndcg_all@20`,
            judged on everything that was removed. Segments without users are left out.
        users: {metric: values per user}, in the order of the split.
        is_cold: bool per user.
        ranks: int per user, the place of the last item in the list, from 1; 0 if it is not there.
    """

    rows: dict
    users: dict
    is_cold: np.ndarray
    ranks: np.ndarray


def evaluate(recommender, dataset, split="test", ks=(5, 10, 20, 50), batch_size=256):
    """Ranks the whole catalogue for every user of a split.

    Warm users are judged with their history, cold ones without; items of the input history are
    left out of the lists. The relevant item is the last one, and for cold users beside it all that
    the record holds of what was removed (`data.target: all`). A target outside the vocabulary is a
    miss.

    Args:
        recommender: anything with `recommend(batch, k) -> ids [B, K]`; one that has a `config` is
            asked with the history length of that.
        dataset: `PreparedDataset`.
        split: which users.
        ks: every K of the metrics.

    Returns:
        `Report`; overall counts every user once, so it lies between the segments.

    Raises:
        InputError: no users in the split.
    """
    config = getattr(recommender, "config", None)
    if config is not None:
        dataset = dataset.with_history(config.data.max_history)
    k = min(max(ks), dataset.schema.items - FIRST_ID)
    lists, relevant, is_cold = [], [], []
    for batch in dataset.batches(split, batch_size):
        lists.append(np.asarray(recommender.recommend(batch, k)))
        relevant.extend(_told_apart(row[row != PAD]) for row in batch["target"].numpy())
        is_cold.append(batch["is_cold"].numpy())
    if not relevant:
        raise InputError(
            f"split {split!r} of {dataset.name}", "it must hold users", "Prepare the dataset again."
        )
    lists, is_cold = np.concatenate(lists), np.concatenate(is_cold)
    hit, n = metrics.hits(lists, [items[-1:] for items in relevant])
    users = {"mrr": metrics.reciprocal_rank(hit), **_judged(hit, n, ks)}
    everything = _judged(*metrics.hits(lists, relevant), ks, "_all")
    chosen = {OVERALL: np.ones_like(is_cold), WARM: ~is_cold, COLD: is_cold}
    rows = {
        segment: {
            "users": int(rows.sum()),
            **_means(users, rows),
            **(_means(everything, rows) if segment == COLD else {}),
            **{f"coverage@{each}": metrics.coverage(lists[rows], each, PAD) for each in ks},
            **{f"jaccard@{each}": metrics.mean_jaccard(lists[rows], each, PAD) for each in ks},
        }
        for segment, rows in chosen.items()
        if rows.any()
    }
    ranks = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), 0)
    return Report(rows, {**users, **everything}, is_cold, ranks)


def _judged(hit, n_relevant, ks, suffix=""):
    """{metric: values per user}, of what `metrics.hits` tells."""
    return {
        f"{name}{suffix}@{k}": metric(hit, n_relevant, k)
        for k in ks
        for name, metric in (("recall", metrics.recall), ("ndcg", metrics.ndcg))
    }


def _means(users, rows):
    return {name: float(values[rows].mean()) for name, values in users.items()}


def _told_apart(items):
    """Two unknown items share the id OOV and are two misses all the same: give them ids < 0."""
    return np.where(items == OOV, -1 - np.arange(len(items)), items)


def table(rows, names=("recall@20", "ndcg@20", "coverage@20"), segments=(WARM, COLD, OVERALL)):
    """Formats several recommenders' rows side by side.

    Args:
        rows: {recommender: Report.rows}.
        names: metrics, one column each per segment.

    Returns:
        Text: one line a recommender, numbers to four places, counts as they are.
    """
    width = max(len(name) for name in rows) + 2
    cell = max(len(name) for name in names) + 2
    lines = [
        " " * width + "".join(s.center(cell * len(names)) for s in segments),
        " " * width + "".join(name.rjust(cell) for _ in segments for name in names),
    ]
    for recommender, values in rows.items():
        cells = [_cell(values.get(s, {}).get(name)) for s in segments for name in names]
        lines.append(recommender.ljust(width) + "".join(text.rjust(cell) for text in cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value > 1 else f"{value:.4f}"

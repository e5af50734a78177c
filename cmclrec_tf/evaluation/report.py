"""Evaluates a recommender on a split, by segment and over the whole catalogue."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import metrics
from cmclrec_tf.evaluation.metrics import Bools, Floats, Ints
from cmclrec_tf.schema import COLD, FIRST_ID, OOV, OVERALL, PAD, WARM
from cmclrec_tf.types import Batch, FloatBV, ItemRecommender, ItemScorer

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

# {segment: {metric: value}}.
Rows: TypeAlias = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Report:
    """Metrics of one recommender on one split.

    Attributes:
        rows: values by segment and metric. Metrics are `recall@20`, `ndcg@20`, `coverage@20`,
            `jaccard@20`, `mrr`, `users` and `repeats`, the numbers of users and of those whose
            last item is a known one of their history; cold users also have `recall_all@20` and
            `ndcg_all@20`, with all removed items as relevant. A recommender with `has_logits` has
            `log_likelihood`: the mean log of the share that it predicts for the last item, among
            all items of the vocabulary. Segments without users are left out.
        users: values per user by metric, in the order of the split; the log-likelihood of a last
            item outside the vocabulary is NaN, and no part of a mean.
        is_cold: bool per user.
        ranks: rank of the last item in each user's list, from 1; 0 if it is not in the list.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> report = cm.evaluate(cm.Popularity(data), data)
        >>> sorted(report.rows)
        ['cold', 'overall', 'warm']
        >>> bool(report.users["mrr"].mean() == report.rows["overall"]["mrr"])
        True
    """

    rows: Rows
    users: dict[str, Floats]
    is_cold: Bools
    ranks: Ints


def evaluate(
    recommender: ItemRecommender,
    dataset: "PreparedDataset",
    split: str = "test",
    ks: Sequence[int] = (5, 10, 20, 50),
    batch_size: int = 256,
) -> Report:
    """Ranks the whole catalogue for every user of a split and computes the metrics.

    The recommender sees the history of warm users, and only the user features of cold ones. By
    default it leaves items of the history out, so no user in `repeats` can be a hit; with
    `evaluate.seen_items: keep` it does not. The last item is relevant; for cold users the `_all`
    metrics take all items that the record has of the removed history (`data.target: all`). A
    target outside the vocabulary is a miss.

    Args:
        recommender: any object with `recommend(batch, k)`. If it has a `config`, the histories
            have that config's length. If it is a `types.ItemScorer`, the report has
            `log_likelihood`.
        dataset: the prepared dataset.
        split: `train`, `val` or `test`.
        ks: all values of K.
        batch_size: users per batch.

    Returns:
        `Report`. `overall` counts every user once, so it lies between the two segments.

    Raises:
        InputError: the split has no users.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> report = cm.evaluate(cm.Popularity(data), data, ks=(5, 10))
        >>> report.rows["cold"]["users"], report.rows["cold"]["coverage@5"]  # one list for all
        (16, 5)
    """
    config = getattr(recommender, "config", None)
    if config is not None:
        dataset = dataset.read_by(config)
    k = min(max(ks), dataset.schema.items - FIRST_ID)
    has_logits = getattr(recommender, "has_logits", False)
    batch_lists, cold_flags, repeat_flags, likelihoods = [], [], [], []
    relevant: list[Ints] = []
    for batch in dataset.batches(split, batch_size):
        batch_lists.append(np.asarray(recommender.recommend(batch, k)))
        items = [_distinct_misses(row[row != PAD]) for row in batch["target"].numpy()]
        relevant.extend(items)
        if has_logits:
            scores = cast(ItemScorer, recommender).logits(batch)
            likelihoods.append(_log_likelihood(scores, items))
        cold_flags.append(batch["is_cold"].numpy())
        repeat_flags.append(_is_repeat(batch))
    if not relevant:
        raise InputError(
            f"split {split!r} of {dataset.name}", "it must hold users", "Prepare the dataset again."
        )
    lists, is_cold = np.concatenate(batch_lists), np.concatenate(cold_flags)
    is_repeat = np.concatenate(repeat_flags)
    hit, n_relevant = metrics.hits(lists, [items[-1:] for items in relevant])
    users = {"mrr": metrics.reciprocal_rank(hit), **_by_k(hit, n_relevant, ks)}
    all_items = _by_k(*metrics.hits(lists, relevant), ks, suffix="_all")
    likelihood = {"log_likelihood": np.concatenate(likelihoods)} if likelihoods else {}
    known = _known_last(relevant)
    segments = {OVERALL: np.ones_like(is_cold), WARM: ~is_cold, COLD: is_cold}
    rows = {
        segment: {
            "users": int(selected.sum()),
            "repeats": int((selected & is_repeat).sum()),
            **_means(users, selected),
            **_means(likelihood, selected & known),
            **(_means(all_items, selected) if segment == COLD else {}),
            **{f"coverage@{k}": metrics.coverage(lists[selected], k, PAD) for k in ks},
            **{f"jaccard@{k}": metrics.mean_jaccard(lists[selected], k, PAD) for k in ks},
        }
        for segment, selected in segments.items()
        if selected.any()
    }
    ranks = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), 0)
    return Report(rows, {**users, **all_items, **likelihood}, is_cold, ranks)


def _by_k(hit: Bools, n_relevant: Ints, ks: Sequence[int], suffix: str = "") -> dict[str, Floats]:
    """Returns recall and NDCG at every K: values per user by metric."""
    return {
        f"{name}{suffix}@{k}": metric(hit, n_relevant, k)
        for k in ks
        for name, metric in (("recall", metrics.recall), ("ndcg", metrics.ndcg))
    }


def _means(users: Mapping[str, Floats], selected: Bools) -> dict[str, float]:
    if not selected.any():
        return {}
    return {name: float(values[selected].mean()) for name, values in users.items()}


def _known_last(relevant: Sequence[Ints]) -> Bools:
    """Returns which users have a last item of the vocabulary, bool [n]."""
    return np.array([bool(len(items) and items[-1] >= FIRST_ID) for items in relevant], bool)


def _log_likelihood(scores: FloatBV, relevant: Sequence[Ints]) -> Floats:
    """Returns log softmax(scores) of each user's last item; NaN for an unknown one, float [B]."""
    from cmclrec_tf.losses.next_item import next_item  # Keras, which the metrics do not need

    last = np.array([items[-1] if len(items) else PAD for items in relevant], np.int32)
    values = -np.asarray(next_item(scores, last), np.float64)
    return np.where(_known_last(relevant), values, np.nan)


def _is_repeat(batch: Batch) -> Bools:
    """Returns which warm users' last item is a known one of their history, bool [B]."""
    history, target = batch["history"].numpy(), batch["target"].numpy()
    if not target.shape[1]:
        return np.zeros(len(target), bool)
    # Targets are padded on the right, so the last item is the last id that is not PAD.
    at = np.maximum((target != PAD).sum(axis=1) - 1, 0)
    last = np.take_along_axis(target, at[:, None], axis=1)
    flags: Bools = ((history == last) & (last > OOV)).any(axis=1) & ~batch["is_cold"].numpy()
    return flags


def _distinct_misses(items: Ints) -> Ints:
    """Replaces OOV by ids below 0: two unknown items share one id, but are two misses."""
    return np.where(items == OOV, -1 - np.arange(len(items)), items)


def table(
    rows: Mapping[str, Mapping[str, Mapping[str, float]]],
    names: Sequence[str] = ("recall@20", "ndcg@20", "coverage@20"),
    segments: Sequence[str] = (WARM, COLD, OVERALL),
) -> str:
    """Formats the metrics of several recommenders as a table of text.

    Args:
        rows: `Report.rows` by the name of the recommender.
        names: metrics; each is a column per segment.
        segments: segments, from left to right.

    Returns:
        One line per recommender after two header lines; numbers have four decimals, counts none.

    Example:
        >>> import cmclrec_tf as cm
        >>> rows = {"sasrec": {"warm": {"ndcg@20": 0.1}}, "random": {"warm": {"ndcg@20": 0.0123}}}
        >>> print(cm.table(rows, names=["ndcg@20"], segments=["warm"]))
                  warm
                ndcg@20
        sasrec   0.1000
        random   0.0123
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


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value > 1 else f"{value:.4f}"

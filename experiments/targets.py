"""What the table of a dataset has to show, as checks that are met or missed."""

import dataclasses

from cmclrec_tf.config import ABLATIONS
from cmclrec_tf.schema import COLD, OVERALL
from experiments.results import LISTS, QUALITY

ROW = "default"
BACKBONE = "sasrec"
POPULARITY = "popularity"


@dataclasses.dataclass(frozen=True)
class Targets:
    """Bounds on `default`, as ratios to the strongest row that is not CMCLRec.

    Attributes:
        cold_last: of Recall@20 and NDCG@20. cold_all: of NDCG@20.
        p_last, p_all: what the p values must be below; None asks for none.
        warm: of NDCG@20, to the backbone alone.
        jaccard: what the cold lists' mean must be below.
        coverage: the cold lists' number of items must be more than this many times popularity's.
    """

    cold_last: float
    p_last: float
    cold_all: float
    p_all: float | None
    warm: float = 1.0
    jaccard: float | None = None
    coverage: float | None = None


TARGETS = {
    "kuairand-pure": Targets(1.15, 0.01, 1.05, 0.01, jaccard=0.7, coverage=3),
    "movielens-1m": Targets(1.05, 0.05, 1.02, None),
}

# The backbone alone, as published of it: gSASRec has .173 / .300, eSASRec .177 / .313.
PUBLISHED = {"movielens-1m-leave-one-out": {"NDCG@10": 0.17, "Recall@10": 0.30}}

_COLUMN = {(c.label, c.metric): c for c in QUALITY}
_NDCG = "NDCG@20"


def checks(results, dataset):
    """Compares the table with its targets.

    Args:
        results: `Results`.
        dataset: its name.

    Returns:
        list of pairs: what is asked for, with the number found, and whether it is met. Empty for a
        dataset without targets, or a table without `default` or without anything beside it.
    """
    if dataset in PUBLISHED and BACKBONE in results.names:
        return list(_published(results, PUBLISHED[dataset]))
    targets = TARGETS.get(dataset)
    if targets is None or ROW not in results.names or not results.others:
        return []
    return [
        *(
            _ratio(results, ("cold last", metric), targets.cold_last, targets.p_last)
            for metric in (_NDCG, "Recall@20")
        ),
        _ratio(results, ("cold all", _NDCG), targets.cold_all, targets.p_all),
        *_warm(results, targets),
        _best_overall(results),
        *_ablations(results),
        *_lists(results, targets),
    ]


def _published(results, bounds):
    for column in results.columns:
        if column.metric in bounds:
            found, bound = results.mean(BACKBONE, column), bounds[column.metric]
            yield f"{BACKBONE}: {column.metric} at least {bound:.2f}: {found:.4f}", found >= bound


def _ratio(results, place, bound, p_bound, other=None):
    column = _COLUMN[place]
    found = results.against(ROW, other or results.best(column, results.others), column)
    text = f"{' '.join(place)} at least {bound:.2f} times {found.best}: {found.ratio:.3f}"
    met = found.ratio >= bound
    if p_bound is not None:
        text += f", p < {p_bound:g}: {found.p:.2g}"
        met = met and found.p < p_bound
    return text, met


def _warm(results, targets):
    if BACKBONE in results.names:
        yield _ratio(results, ("warm", _NDCG), targets.warm, None, BACKBONE)


def _best_overall(results):
    column = _COLUMN[OVERALL, _NDCG]
    best = results.best(column, results.names)
    return f"overall {_NDCG} the best of the table: {best} is", best == ROW


def _ablations(results):
    for name in ABLATIONS:
        if name in results.names:
            columns = [_COLUMN[label, _NDCG] for label in ("warm", "cold last", OVERALL)]
            above = [results.mean(ROW, c) > results.mean(name, c) for c in columns]
            yield f"{_NDCG} above {name} in every segment", all(above)


def _lists(results, targets):
    coverage, jaccard = (
        next(c for c in LISTS if (c.label, c.metric) == (COLD, metric))
        for metric in ("coverage", "jaccard")
    )
    if targets.jaccard is not None:
        found = results.mean(ROW, jaccard)
        yield (
            f"cold lists: mean jaccard below {targets.jaccard}: {found:.3f}",
            (found < targets.jaccard),
        )
    if targets.coverage is not None and POPULARITY in results.names:
        found = results.mean(ROW, coverage) / results.mean(POPULARITY, coverage)
        text = f"cold lists: coverage above {targets.coverage:g} times popularity's: {found:.1f}"
        yield text, found > targets.coverage

"""Evaluates popularity within TensorFlow Model Analysis, on the same users as the model.

Also counts the users whose target, if the model knows it, stands in their history.

The lists of a floor are made here, from the most popular items and the history of the user. So they
follow the protocol of the model's lists: the same users, the same targets, the same metrics.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from cmclrec_tf.data import vocabulary
from cmclrec_tf.evaluation import metrics
from cmclrec_tf.schema import HISTORY
from pipeline.evaluation.floors import difference_interval, high_of, of_floor, over_floor
from pipeline.evaluation.ranking_metrics import Reported, tensor_values
from pipeline.evaluation.slices import REPEATS, error_of

_Accumulator: TypeAlias = tuple[int, np.ndarray, np.ndarray, tuple[set[bytes], ...]]
"""Number of users, sums and sums of squares of their values, items of all lists for each K."""


class AgainstFloor(metric_types.Metric):
    """Metrics of a floor, and the model's NDCG minus the floor's, averaged over the users.

    The metric that it is named after, and that a bound applies to, is the upper end of the 95 %
    interval of the difference: a model is below the floor if that is below 0.

    Args:
        floor: name of the floor, see `floors.FLOORS`.
        k: K of the NDCG that is compared.
        ks: all K that the floor's metrics are reported for.
        hides_history: whether the items of a user's history are left out of the floor's list, as
            they are left out of the model's.
        history: length of the longest history.
        items: the most popular items, best first, as many as the longest K and history need. The
            Evaluator fills them in, as they are not known before the data are.
        name: name of the metric.
        sources: digest of the code, used only in the cache key.
    """

    def __init__(
        self,
        floor: str = "popularity",
        k: int = 20,
        ks: Sequence[int] = (20,),
        hides_history: bool = True,
        history: int = 0,
        items: Sequence[str] = (),
        name: str | None = None,
        sources: str = "",
    ):
        super().__init__(
            _against_floor,
            floor=floor,
            k=k,
            ks=list(ks),
            hides_history=hides_history,
            items=list(items),
            name=name or over_floor(floor, high_of(f"ndcg@{k}")),
        )


class Repeats(metric_types.Metric):
    """Number of users in a slice who have a target in their history that the model knows.

    Lists without the history cannot hold such a target, see `EvaluateConfig.seen_items`.

    Args:
        items_file: path of the vocabulary of the items. The Evaluator fills it in, as it is not
            known before the data are. Without it, every item counts as a known one.
        name: name of the metric.
        sources: digest of the code, used only in the cache key.
    """

    def __init__(self, items_file: str = "", name: str | None = None, sources: str = ""):
        super().__init__(_repeats, items_file=items_file, name=name or REPEATS)


for _metric in (AgainstFloor, Repeats):
    metric_types.register_metric(_metric)


def _against_floor(floor, k, ks, hides_history, items, name, model_names=None):
    combine = FloorDifference(k, ks, hides_history, [vocabulary.encode(item) for item in items])
    names = [
        *(of_floor(floor, f"{metric}@{cut}") for metric in ("recall", "ndcg") for cut in ks),
        *(of_floor(floor, f"coverage@{cut}") for cut in ks),
        over_floor(floor, f"ndcg@{k}"),
        over_floor(floor, error_of(f"ndcg@{k}")),
        name,
    ]
    return _computations(combine, names, model_names)


def _repeats(items_file, name, model_names=None):
    return _computations(RepeatCount(items_file), [name], model_names)


def _computations(combine, names, model_names):
    return [
        metric_types.MetricComputation(
            keys=keys,
            preprocessors=[metric_types.FeaturePreprocessor(feature_keys=[HISTORY])],
            combiner=_Reported(combine, keys, model),
        )
        for model in model_names or [""]
        for keys in [[metric_types.MetricKey(name=name, model_name=model) for name in names]]
    ]


class _Reported(Reported):
    """Also feeds the histories of users to `combine`."""

    def _element(self, inputs, model):
        return *super()._element(inputs, model), tensor_values(inputs.features.get(HISTORY))


class RepeatCount(beam.CombineFn):
    """Number of users who have a known relevant item in their history.

    An element is one of `FloorDifference`.

    Args:
        items_file: see `Repeats`. A worker reads it once.
    """

    def __init__(self, items_file: str = ""):
        self._items_file = items_file

    def create_accumulator(self) -> int:
        """Returns 0."""
        return 0

    def add_input(self, accumulator: int, user: tuple[np.ndarray, np.ndarray, np.ndarray]) -> int:
        """Adds one user."""
        _, relevant, history = user
        again = set(relevant.tolist()) & set(history.tolist())
        if again and self._items_file:
            again &= _items_of(self._items_file)
        return accumulator + bool(again)

    def merge_accumulators(self, accumulators: Iterable[int]) -> int:
        """Adds up the counts of several workers."""
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> tuple[float]:
        """Returns the count."""
        return (float(accumulator),)


@functools.lru_cache(maxsize=1)
def _items_of(path: str) -> frozenset[bytes]:
    """Returns the items of a vocabulary."""
    return frozenset(map(vocabulary.encode, vocabulary.read(path)))


class FloorDifference(beam.CombineFn):
    """Means of a floor's metrics, and of the difference between the model's NDCG@k and the floor's.

    An element is three arrays of a user: the model's list, the relevant items and the history.

    Args:
        k: K of the difference.
        ks: all K of the floor's metrics.
        hides_history: whether the floor's list leaves out the history.
        items: the most popular items, best first.
    """

    def __init__(self, k: int, ks: Sequence[int], hides_history: bool, items: Sequence[bytes]):
        self._k, self._ks, self._hides_history, self._items = k, ks, hides_history, items

    def create_accumulator(self) -> _Accumulator:
        """Returns the sums over no users."""
        zeros = np.zeros(2 * len(self._ks) + 1)
        return 0, zeros, zeros, tuple(set() for _ in self._ks)

    def add_input(
        self, accumulator: _Accumulator, user: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> _Accumulator:
        """Adds the values of one user."""
        recommended, relevant, history = user
        popular = self._popular(history)
        hit, n_relevant = metrics.hits(popular[None], [relevant])
        model_hit, _ = metrics.hits(recommended[None, : self._k], [relevant])
        gain = metrics.ndcg(model_hit, n_relevant, self._k) - metrics.ndcg(hit, n_relevant, self._k)
        values = np.concatenate(
            [
                *(metrics.recall(hit, n_relevant, k) for k in self._ks),
                *(metrics.ndcg(hit, n_relevant, k) for k in self._ks),
                gain,
            ]
        )
        count, sums, squares, covered = accumulator
        for k, items in zip(self._ks, covered, strict=True):
            items.update(popular[:k].tolist())
        return count + 1, sums + values, squares + values * values, covered

    def merge_accumulators(self, accumulators: Iterable[_Accumulator]) -> _Accumulator:
        """Adds up what several workers have seen."""
        counts, sums, squares, covered = zip(*accumulators, strict=True)
        joined = tuple(set().union(*items) for items in zip(*covered, strict=True))
        return sum(counts), np.sum(sums, axis=0), np.sum(squares, axis=0), joined

    def extract_output(self, accumulator: _Accumulator) -> tuple[float, ...]:
        """Returns recall and NDCG for each K, coverage for each K, then of the difference the mean,
        its standard error and the upper end of its 95 % interval."""
        count, sums, squares, covered = accumulator
        means = sums / max(count, 1)
        gain, error = float(means[-1]), math.nan
        if count > 1:
            variance = max(float(squares[-1]) - float(sums[-1]) * gain, 0.0) / (count - 1)
            error = math.sqrt(variance / count)
        coverage = (float(len(items)) for items in covered)
        _, high = difference_interval(gain, error)
        return *means[:-1].tolist(), *coverage, gain, error, high

    def _popular(self, history: np.ndarray) -> np.ndarray:
        """Returns the floor's list for a user, as many items as the longest K or as are left."""
        hidden = set(history.tolist()) if self._hides_history else ()
        left = (item for item in self._items if item not in hidden)
        return np.array(list(itertools.islice(left, max(self._ks))), object)

"""Wraps the library's ranking metrics for TensorFlow Model Analysis.

A label is the `target` of a user record, any number of item ids. A prediction is the answer of the
signature `serving_default`. The arguments of each metric are its cut `k`, the `name` that it is
reported as, and `sources`, a digest of the code that is only part of the Evaluator's cache key.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from cmclrec_tf.evaluation import metrics
from pipeline.evaluation.slices import error_of
from serving.contract import ITEM_IDS

_Lists: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A user's recommended and relevant items."""


class RecallAtK(metric_types.Metric):
    """Recall@K, averaged over the users of a slice, with its standard error."""

    def __init__(self, k: int = 20, name: str | None = None, sources: str = ""):
        super().__init__(_recall, k=k, name=name or f"recall@{k}")


class NDCGAtK(metric_types.Metric):
    """NDCG@K, averaged over the users of a slice, with its standard error."""

    def __init__(self, k: int = 20, name: str | None = None, sources: str = ""):
        super().__init__(_ndcg, k=k, name=name or f"ndcg@{k}")


class CoverageAtK(metric_types.Metric):
    """Number of distinct items among the first K of all lists of a slice."""

    def __init__(self, k: int = 20, name: str | None = None, sources: str = ""):
        super().__init__(_coverage, k=k, name=name or f"coverage@{k}")


for _metric in (RecallAtK, NDCGAtK, CoverageAtK):
    metric_types.register_metric(_metric)


def _recall(k=20, name="recall", model_names=None):
    return _computations(UserMean(metrics.recall, k), [name, error_of(name)], model_names)


def _ndcg(k=20, name="ndcg", model_names=None):
    return _computations(UserMean(metrics.ndcg, k), [name, error_of(name)], model_names)


def _coverage(k=20, name="coverage", model_names=None):
    return _computations(DistinctItems(k), [name], model_names)


def _computations(combine, names, model_names):
    return [
        metric_types.MetricComputation(
            keys=keys,
            preprocessors=None,
            combiner=Reported(combine, keys, model),
        )
        for model in model_names or [""]
        for keys in [[metric_types.MetricKey(name=name, model_name=model) for name in names]]
    ]


class Reported(beam.CombineFn):
    """Feeds the lists and targets of users to `combine`, and names its results for TFMA."""

    def __init__(self, combine: beam.CombineFn, keys: Sequence[metric_types.MetricKey], model: str):
        self._combine, self._keys, self._model = combine, keys, model

    def create_accumulator(self) -> Any:
        """Returns the accumulator of `combine`."""
        return self._combine.create_accumulator()

    def add_input(self, accumulator: Any, inputs: metric_types.StandardMetricInputs) -> Any:
        """Adds a user."""
        return self._combine.add_input(accumulator, self._element(inputs, self._model or None))

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        """Merges the accumulators of several workers."""
        return self._combine.merge_accumulators(accumulators)

    def extract_output(self, accumulator: Any) -> dict[metric_types.MetricKey, float]:
        """Returns the results by their keys."""
        return dict(zip(self._keys, self._combine.extract_output(accumulator), strict=True))

    def _element(
        self, inputs: metric_types.StandardMetricInputs, model: str | None
    ) -> tuple[np.ndarray, ...]:
        """Returns what `combine` takes of a user, from TFMA's inputs."""
        answer = inputs.get_predictions(model_name=model)
        return tensor_values(answer[ITEM_IDS]), tensor_values(inputs.get_labels(model_name=model))


class UserMean(beam.CombineFn):
    """Mean over users of a metric, and its standard error, which is nan for a single user.

    An element is a pair of arrays: the recommended and the relevant items of one user.

    Args:
        metric: `metric(hit [1, K], n_relevant [1], k) -> float [1]`, see
            `cmclrec_tf.evaluation.metrics`.
        k: length of the lists that are judged.
    """

    def __init__(self, metric: Callable[..., np.ndarray], k: int):
        self._metric, self._k = metric, k

    def create_accumulator(self) -> tuple[int, float, float]:
        """Returns the count, the sum and the sum of squares of no values."""
        return 0, 0.0, 0.0

    def add_input(
        self, accumulator: tuple[int, float, float], lists: _Lists
    ) -> tuple[int, float, float]:
        """Adds the metric of one user."""
        recommended, relevant = lists
        hit, n_relevant = metrics.hits(recommended[None, : self._k], [relevant])
        value = float(self._metric(hit, n_relevant, self._k)[0])
        users, total, squares = accumulator
        return users + 1, total + value, squares + value * value

    def merge_accumulators(
        self, accumulators: Iterable[tuple[int, float, float]]
    ) -> tuple[float, ...]:
        """Adds up the counts and sums of several workers."""
        return tuple(map(sum, zip(*accumulators, strict=True)))

    def extract_output(self, accumulator: tuple[int, float, float]) -> tuple[float, float]:
        """Returns the mean and its standard error."""
        users, total, squares = accumulator
        if users < 2:
            return total / users if users else math.nan, math.nan
        # Metrics are in [0, 1], so the difference is exact to more digits than a report shows.
        variance = max(squares - total * total / users, 0.0) / (users - 1)
        return total / users, math.sqrt(variance / users)


class DistinctItems(beam.CombineFn):
    """Number of distinct items among the first `k` of each list; "" stands for no item.

    Args:
        k: length of the lists that are judged.
    """

    def __init__(self, k: int):
        self._k = k

    def create_accumulator(self) -> set[bytes]:
        """Returns an empty set of items."""
        return set()

    def add_input(self, accumulator: set[bytes], lists: _Lists) -> set[bytes]:
        """Adds the items of one list."""
        recommended, _ = lists
        accumulator.update(recommended[: self._k].tolist())
        accumulator.discard(b"")
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[set[bytes]]) -> set[bytes]:
        """Joins the sets of several workers."""
        return set().union(*accumulators)

    def extract_output(self, accumulator: set[bytes]) -> tuple[float]:
        """Returns the number of items."""
        return (float(len(accumulator)),)


def tensor_values(tensor: Any) -> np.ndarray:  # an array, a SparseTensorValue or None
    """Returns the items of one user as a flat array of bytes."""
    if tensor is None:
        return np.array([], dtype=object)
    values = tensor.values if hasattr(tensor, "dense_shape") else tensor
    return np.asarray(values, dtype=object).reshape(-1)

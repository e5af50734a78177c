"""Ranking metrics for TensorFlow Model Analysis: the library's numbers, a user a row.

A label is the record's `target` (any number of item ids) and a prediction what the signature
`serving_default` answers; `config` of a metric is its cut `k`, the `name` it is reported under, and
`sources`, a digest of this code, which is there for the Evaluator's cache key alone.
"""

import math

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from cmclrec_tf.evaluation import metrics
from pipeline.evaluation.slices import error_of
from serving.contract import ITEM_IDS


class RecallAtK(metric_types.Metric):
    """Recall@K of a user's list, averaged over the users of a slice, with its standard error."""

    def __init__(self, k=20, name=None, sources=""):
        super().__init__(_recall, k=k, name=name or f"recall@{k}")


class NDCGAtK(metric_types.Metric):
    """NDCG@K of a user's list, averaged over the users of a slice, with its standard error."""

    def __init__(self, k=20, name=None, sources=""):
        super().__init__(_ndcg, k=k, name=name or f"ndcg@{k}")


class CoverageAtK(metric_types.Metric):
    """Number of distinct items among the first K of all users of a slice."""

    def __init__(self, k=20, name=None, sources=""):
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
            combiner=_Reported(combine, keys, model),
        )
        for model in model_names or [""]
        for keys in [[metric_types.MetricKey(name=name, model_name=model) for name in names]]
    ]


class _Reported(beam.CombineFn):
    """Feeds a user's list and targets to `combine` and reports its results under the keys."""

    def __init__(self, combine, keys, model):
        self._combine, self._keys, self._model = combine, keys, model

    def create_accumulator(self):
        return self._combine.create_accumulator()

    def add_input(self, accumulator, inputs):
        answer = inputs.get_predictions(model_name=self._model or None)
        targets = _values(inputs.get_labels(model_name=self._model or None))
        return self._combine.add_input(accumulator, (_values(answer[ITEM_IDS]), targets))

    def merge_accumulators(self, accumulators):
        return self._combine.merge_accumulators(accumulators)

    def extract_output(self, accumulator):
        return dict(zip(self._keys, self._combine.extract_output(accumulator), strict=True))


class UserMean(beam.CombineFn):
    """Mean over users of `metric(hit [1, K], n_relevant [1], k) -> float [1]`, and its error.

    Elements are pairs of arrays: a user's recommended and relevant items. The result is the mean
    and its standard error, which a single user leaves unknown (nan).
    """

    def __init__(self, metric, k):
        self._metric, self._k = metric, k

    def create_accumulator(self):
        return 0, 0.0, 0.0

    def add_input(self, accumulator, lists):
        recommended, relevant = lists
        hit, n_relevant = metrics.hits(recommended[None, : self._k], [relevant])
        value = float(self._metric(hit, n_relevant, self._k)[0])
        users, total, squares = accumulator
        return users + 1, total + value, squares + value * value

    def merge_accumulators(self, accumulators):
        return tuple(map(sum, zip(*accumulators, strict=True)))

    def extract_output(self, accumulator):
        users, total, squares = accumulator
        if users < 2:
            return total / users if users else math.nan, math.nan
        # Metrics lie in [0, 1], so that the difference loses no digits that anybody reads.
        variance = max(squares - total * total / users, 0.0) / (users - 1)
        return total / users, math.sqrt(variance / users)


class DistinctItems(beam.CombineFn):
    """Number of distinct items among the first `k` of the users' lists; "" is no item."""

    def __init__(self, k):
        self._k = k

    def create_accumulator(self):
        return set()

    def add_input(self, accumulator, lists):
        recommended, _ = lists
        accumulator.update(recommended[: self._k].tolist())
        accumulator.discard(b"")
        return accumulator

    def merge_accumulators(self, accumulators):
        return set().union(*accumulators)

    def extract_output(self, accumulator):
        return (float(len(accumulator)),)


def _values(tensor):
    """One user's items as a flat array of bytes, whatever TFMA wrapped them in."""
    if tensor is None:
        return np.array([], dtype=object)
    values = tensor.values if hasattr(tensor, "dense_shape") else tensor
    return np.asarray(values, dtype=object).reshape(-1)

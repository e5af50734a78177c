"""Measures users per second of `evaluate` over all items, against NumPy.

NumPy computes the scores with a matrix product and the lists with argpartition and a sort; it
neither removes the items of histories nor computes metrics.

    python -m benchmarks.evaluation_speed
"""

import time
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import performance_table
from benchmarks.performance_table import Row

WIDTH, LENGTH, BATCH, K = 64, 50, 256, 50


def measure(quick: bool) -> Iterator[Row]:
    """Yields the ratio; it does not depend on the number of users."""
    users, items = (512, 5000) if quick else (8192, 100_000)
    rng = np.random.default_rng(0)
    states = rng.standard_normal((users, WIDTH), np.float32)
    vectors = rng.standard_normal((items, WIDTH), np.float32)
    history = rng.integers(2, items, (users, LENGTH), np.int32)
    target = rng.integers(2, items, (users, 1), np.int32)
    evaluate_seconds, numpy_seconds = [], []
    for _ in range(3):
        evaluate_seconds.append(_time_evaluate(states, vectors, history, target))
        numpy_seconds.append(_time_numpy(states, vectors))
    ours, theirs = users / sorted(evaluate_seconds)[1], users / sorted(numpy_seconds)[1]
    yield Row(
        f"evaluation over {items:,} items: users/s against NumPy",
        ours / theirs,
        "x",
        at_least=1.0,
        detail=f"{ours:,.0f}/s without the items of histories, all metrics included; NumPy's lists "
        f"alone {theirs:,.0f}/s; 100,000 users in {100_000 / ours:.0f} s",
    )


def _time_evaluate(
    states: np.ndarray, vectors: np.ndarray, history: np.ndarray, target: np.ndarray
) -> float:
    """Returns the seconds of `evaluate`, without the tracing of its graph."""
    import tensorflow as tf

    from cmclrec_tf.evaluation import evaluate
    from cmclrec_tf.models import ranking

    all_states = tf.constant(states)
    items = tf.constant(vectors)

    @tf.function(reduce_retracing=True)
    def recommend(batch, k):
        rows = tf.gather(all_states, batch["rows"])
        return ranking.recommend(tf.matmul(rows, items, transpose_b=True), batch, k)

    def batches(split, batch_size):
        columns = {
            "history": history,
            "target": target,
            "is_cold": target[:, 0] < 0,
            "rows": range(len(states)),
        }
        return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)

    schema = types.SimpleNamespace(items=len(vectors))
    dataset: Any = types.SimpleNamespace(name="synthetic", schema=schema, batches=batches)
    recommender: Any = types.SimpleNamespace(recommend=recommend)
    recommend(next(iter(batches("test", BATCH))), K)
    start = time.perf_counter()
    evaluate(recommender, dataset, ks=(10, K), batch_size=BATCH)
    return time.perf_counter() - start


def _time_numpy(states: np.ndarray, vectors: np.ndarray) -> float:
    """Returns the seconds in which NumPy finds the K best items of every user."""
    start = time.perf_counter()
    for first in range(0, len(states), BATCH):
        scores = states[first : first + BATCH] @ vectors.T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        np.take_along_axis(best, order, axis=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

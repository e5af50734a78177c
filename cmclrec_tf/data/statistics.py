"""Computes the statistics of numeric user features over the train split."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cmclrec_tf.data import numeric
from cmclrec_tf.schema import Feature, Schema
from cmclrec_tf.types import Tensor

READ_BATCH = 1024
# Quantiles of so many numbers are as good as those of all.
MOST_NUMBERS = 2**20


def with_statistics(schema: Schema, records: tf.data.Dataset) -> Schema:
    """Returns the schema with the `quantiles`, `mean` and `scale` of each numeric feature.

    Mean and scale are those of the numbers that a model reads, after all transforms.

    Args:
        schema: schema of the dataset, with at least one numeric feature.
        records: serialized user records of the train split.
    """
    known = _with_quantiles([f for f in schema.features if f.is_numeric], records)
    spec = _spec(known)
    zeros = tf.zeros([len(known)], tf.float64)

    def add(state: tuple[Tensor, ...], serialized: Tensor) -> tuple[Tensor, ...]:
        parsed = tf.io.parse_example(serialized, spec)
        values = [numeric.transformed(f, parsed[f.name].flat_values) for f in known]
        values = [tf.cast(tf.boolean_mask(v, tf.math.is_finite(v)), tf.float64) for v in values]
        return (
            state[0] + tf.stack([tf.cast(tf.size(v), tf.float64) for v in values]),
            state[1] + tf.stack([tf.reduce_sum(v) for v in values]),
            state[2] + tf.stack([tf.reduce_sum(v * v) for v in values]),
        )

    count, total, squares = records.batch(READ_BATCH).reduce((zeros,) * 3, add)
    count = tf.maximum(count, 1.0)
    mean = total / count
    deviation = tf.sqrt(tf.maximum(squares / count - mean**2, 0.0))
    scaled = {
        f.name: dataclasses.replace(f, mean=float(m), scale=_scale(float(m), float(s)))
        for f, m, s in zip(known, mean, deviation, strict=True)
    }
    features = tuple(scaled.get(f.name, f) for f in schema.features)
    return dataclasses.replace(schema, features=features)


def _with_quantiles(features: Sequence[Feature], records: tf.data.Dataset) -> list[Feature]:
    """Returns the features, those that need quantiles with them."""
    needed = [f for f in features if numeric.needs_quantiles(f)]
    samples = {f.name: _Sample() for f in needed}
    for parsed in _parsed(needed, records):
        for feature in needed:
            values = parsed[feature.name].flat_values
            finite = tf.boolean_mask(values, tf.math.is_finite(values))
            samples[feature.name].add(np.asarray(numeric.bounded(feature, finite)))
    return [
        dataclasses.replace(f, quantiles=numeric.quantiles(f, samples[f.name].numbers()))
        if f.name in samples
        else f
        for f in features
    ]


class _Sample:
    """Every number of a stream; of a long stream every second one, or every fourth, and so on."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._size, self._step, self._skip = 0, 1, 0

    def add(self, numbers: NDArray[np.float32]) -> None:
        part = numbers[self._skip :: self._step]
        self._skip = (self._skip - len(numbers)) % self._step
        self._parts.append(part)
        self._size += len(part)
        if self._size > MOST_NUMBERS:
            kept = self.numbers()
            # The next number has the index `size` among those that are kept.
            self._skip += self._step * (self._size % 2)
            self._parts, self._size, self._step = [kept[::2]], -(-len(kept) // 2), 2 * self._step

    def numbers(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, np.float32), *self._parts])


def _parsed(
    features: Sequence[Feature], records: tf.data.Dataset
) -> Iterator[dict[str, tf.RaggedTensor]]:
    """Yields batches of the values of features; nothing is read for none."""
    if features:
        spec = _spec(features)
        yield from records.batch(READ_BATCH).map(lambda batch: tf.io.parse_example(batch, spec))


def _spec(features: Sequence[Feature]) -> dict[str, tf.io.RaggedFeature]:
    return {f.name: tf.io.RaggedFeature(tf.float32) for f in features}


def _scale(mean: float, deviation: float) -> float:
    """Returns the deviation, or 1 for a column that is constant up to rounding."""
    return deviation if deviation > 1e-6 * max(1.0, abs(mean)) else 1.0

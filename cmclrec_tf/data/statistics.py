"""Computes the mean and scale of numeric user features over the train split."""

import dataclasses

import tensorflow as tf

from cmclrec_tf.data.parsing import clip
from cmclrec_tf.schema import Schema
from cmclrec_tf.types import Tensor

READ_BATCH = 1024


def with_statistics(schema: Schema, records: tf.data.Dataset) -> Schema:
    """Returns the schema with `mean` and `scale` of each numeric feature.

    Args:
        schema: schema of the dataset, with at least one numeric feature.
        records: serialized user records of the train split.
    """
    numeric = [f for f in schema.features if f.is_numeric]
    spec = {f.name: tf.io.RaggedFeature(tf.float32) for f in numeric}
    zeros = tf.zeros([len(numeric)], tf.float64)

    def add(state: tuple[Tensor, ...], serialized: Tensor) -> tuple[Tensor, ...]:
        parsed = tf.io.parse_example(serialized, spec)
        values = [clip(f, tf.cast(parsed[f.name].flat_values, tf.float64)) for f in numeric]
        values = [tf.boolean_mask(v, tf.math.is_finite(v)) for v in values]
        return (
            state[0] + tf.stack([tf.cast(tf.size(v), tf.float64) for v in values]),
            state[1] + tf.stack([tf.reduce_sum(v) for v in values]),
            state[2] + tf.stack([tf.reduce_sum(v * v) for v in values]),
        )

    count, total, squares = records.batch(READ_BATCH).reduce((zeros,) * 3, add)
    count = tf.maximum(count, 1.0)
    mean = total / count
    deviation = tf.sqrt(tf.maximum(squares / count - mean**2, 0.0))
    known = {
        f.name: dataclasses.replace(f, mean=float(m), scale=_scale(float(m), float(s)))
        for f, m, s in zip(numeric, mean, deviation, strict=True)
    }
    features = tuple(known.get(f.name, f) for f in schema.features)
    return dataclasses.replace(schema, features=features)


def _scale(mean: float, deviation: float) -> float:
    """Returns the deviation, or 1 for a column that is constant up to rounding."""
    return deviation if deviation > 1e-6 * max(1.0, abs(mean)) else 1.0

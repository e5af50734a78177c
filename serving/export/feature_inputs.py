"""Turns user features as they are sent into what the model reads: ids, numbers and days."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from cmclrec_tf.data import dates, parsing, vocabulary
from cmclrec_tf.schema import DATE, MULTI, Feature, Schema
from cmclrec_tf.types import Features, Tensor


class FeatureInputs(tf.Module):
    """The user features of requests and records, in the graph of an export.

    The model itself transforms numbers, see `cmclrec_tf.data.numeric`.

    Args:
        schema: schema of the model.
        vocabularies: paths of the vocabulary files, by the names in `Schema.vocabularies`.
    """

    def __init__(self, schema: Schema, vocabularies: Mapping[str, str]) -> None:
        super().__init__()
        self.schema = schema
        self.value_ids = {
            f.name: vocabulary.Lookup(vocabularies[f.name])
            for f in schema.features
            if not f.is_numeric
        }

    def specs(self) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of a signature, by the names of the features."""
        return {f.name: _spec(f) for f in self.schema.inputs}

    def example_spec(self) -> dict[str, tf.io.RaggedFeature]:
        """Returns the fields of a serialized record, for `tf.io.parse_example`."""
        return {
            f.name: tf.io.RaggedFeature(tf.string if f.is_text else tf.float32)
            for f in self.schema.inputs
        }

    def of_request(self, inputs: Mapping[str, Tensor]) -> Features:
        """Returns the model's features from the inputs of `specs`, [B] or [B, N]."""
        values = {}
        for feature in self.schema.inputs:
            value = inputs[feature.name]
            values[feature.name] = value if len(value.shape) == 2 else value[:, None]
        return self._features(values)

    def of_records(self, parsed: Mapping[str, Any]) -> Features:
        """Returns the model's features from the ragged fields of `example_spec`."""
        values = {}
        for feature in self.schema.inputs:
            value = parsed[feature.name]
            if not feature.is_text:
                values[feature.name] = parsing.dense_feature(feature, value)
            elif feature.kind == MULTI:
                # Records in which no user has a value still get one column.
                values[feature.name] = tf.pad(value.to_tensor(""), [[0, 0], [0, 1]])
            else:
                values[feature.name] = value.to_tensor("", shape=[None, 1])
        return self._features(values)

    def _features(self, values: dict[str, Tensor]) -> Features:
        """Returns the model's features from dense values [B, N]."""
        values = {
            f.name: vocabulary.clean(f, values[f.name]) if f.is_text else values[f.name]
            for f in self.schema.inputs
        }
        for feature in self.schema.features:
            if feature.of:
                values[feature.name] = vocabulary.cross([values[name] for name in feature.of])
        features = {}
        for feature in self.schema.features:
            value = values[feature.name]
            if feature.kind == DATE:
                value = dates.days(value)
            elif not feature.is_numeric:
                value = self.value_ids[feature.name](value)
            features[feature.name] = value
        return features


def _spec(feature: Feature) -> tf.TensorSpec:
    if not feature.is_text:
        shape = [None, feature.numbers] if feature.numbers > 1 else [None]
        return tf.TensorSpec(shape, tf.float32, name=feature.name)
    shape = [None, None] if feature.kind == MULTI else [None]
    return tf.TensorSpec(shape, tf.string, name=feature.name)

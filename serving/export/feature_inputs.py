"""Turns user features as they are sent into what the model reads: ids, numbers and days."""

from collections.abc import Mapping, Sequence
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
        self.texts = [f.name for f in schema.inputs if f.is_text and f.kind != MULTI]
        names = [f.name for f in schema.features if f.kind == MULTI]
        self.several_ids = {name: vocabulary.Lookup(vocabularies[name]) for name in names}
        # One look-up for all features with one value.
        self.singles = [f.name for f in schema.features if not f.is_numeric and f.kind != MULTI]
        self.single_ids = vocabulary.JointLookup([vocabularies[name] for name in self.singles])

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
        values = {feature.name: inputs[feature.name] for feature in self.schema.inputs}
        texts = tf.stack([values.pop(name) for name in self.texts], axis=1) if self.texts else None
        values = {n: v if len(v.shape) == 2 else v[:, None] for n, v in values.items()}
        return self._features(texts, values)

    def of_records(self, parsed: Mapping[str, Any]) -> Features:
        """Returns the model's features from the ragged fields of `example_spec`."""
        texts, values = [], {}
        for feature in self.schema.inputs:
            value = parsed[feature.name]
            if not feature.is_text:
                values[feature.name] = parsing.dense_feature(feature, value)
            elif feature.kind == MULTI:
                # Records in which no user has a value still get one column.
                values[feature.name] = tf.pad(value.to_tensor(""), [[0, 0], [0, 1]])
            else:
                texts.append(value.to_tensor("", shape=[None, 1]))
        return self._features(tf.concat(texts, axis=1) if texts else None, values)

    def _features(self, texts: Tensor | None, values: dict[str, Tensor]) -> Features:
        """Returns the model's features.

        Args:
            texts: string [B, N], the features of `self.texts` side by side: operations on all of
                them at once cost less. None if there are none.
            values: the other features by name, [B, N].
        """
        if texts is not None:
            values = values | _columns(self.texts, tf.strings.strip(texts))
        for feature in self.schema.inputs:
            if feature.kind == MULTI or feature.prefix:
                values[feature.name] = vocabulary.clean(feature, values[feature.name])
        for feature in self.schema.features:
            if feature.of:
                values[feature.name] = vocabulary.cross([values[name] for name in feature.of])
        if self.singles:
            ids = self.single_ids(tf.concat([values[name] for name in self.singles], axis=1))
            values |= _columns(self.singles, ids)
        for feature in self.schema.features:
            if feature.kind == DATE:
                values[feature.name] = dates.days(values[feature.name])
            elif feature.kind == MULTI:
                values[feature.name] = self.several_ids[feature.name](values[feature.name])
        return {feature.name: values[feature.name] for feature in self.schema.features}


def _columns(names: Sequence[str], values: Tensor) -> dict[str, Tensor]:
    """Returns the columns [B, 1] of values [B, N] by their names."""
    return dict(zip(names, tf.split(values, len(names), axis=1), strict=True))


def _spec(feature: Feature) -> tf.TensorSpec:
    if not feature.is_text:
        shape = [None, feature.numbers] if feature.numbers > 1 else [None]
        return tf.TensorSpec(shape, tf.float32, name=feature.name)
    shape = [None, None] if feature.kind == MULTI else [None]
    return tf.TensorSpec(shape, tf.string, name=feature.name)

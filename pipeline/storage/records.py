"""Reads raw user records outside of Beam."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import tensorflow as tf

from cmclrec_tf.data import shards
from cmclrec_tf.schema import MULTI, Feature

ParsedRecord: TypeAlias = dict[str, list[Any]]
"""The fields of a user record; a missing value is an empty list or absent. The field decides
whether the values are bytes, int or float, and the fields are known only at run time."""

Profile: TypeAlias = dict[str, "str | float | list[str | float]"]
"""The known user features of a user, as `serving.client.Client.cold` takes them."""


def read(files: Iterable[str]) -> Iterator[bytes]:
    """Yields the serialized records of gzipped TFRecord files, in order."""
    return shards.read(files).as_numpy_iterator()


def parse(record: bytes) -> ParsedRecord:
    """Parses a serialized user record."""
    features = tf.train.Example.FromString(record).features.feature
    return {
        name: list(getattr(feature, kind).value)
        for name, feature in features.items()
        for kind in [feature.WhichOneof("kind")]
        if kind
    }


def profile(user: ParsedRecord, features: Iterable[Feature]) -> Profile:
    """Returns the known user features of a parsed record.

    Args:
        user: the parsed record.
        features: the user features of the dataset.

    Returns:
        `{feature: value}` without missing values; a value is a str or a float, or a list of either.
    """
    known: Profile = {}
    for feature in features:
        values = user.get(feature.name)
        if not values:
            continue
        if feature.is_text:
            values = [value.decode("utf-8", "surrogateescape") for value in values]
        known[feature.name] = values if feature.kind == MULTI or feature.numbers > 1 else values[0]
    return known

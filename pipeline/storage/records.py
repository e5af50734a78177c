"""Reading raw user records outside Beam."""

import tensorflow as tf

from cmclrec_tf.data import shards
from cmclrec_tf.schema import MULTI


def read(files):
    """Serialized records of gzipped TFRecord `files`, in order."""
    return shards.read(files).as_numpy_iterator()


def parse(record):
    """A serialized user record as `{field: [values]}`; what is missing is `[]` or absent."""
    features = tf.train.Example.FromString(record).features.feature
    return {
        name: list(getattr(feature, kind).value)
        for name, feature in features.items()
        for kind in [feature.WhichOneof("kind")]
        if kind
    }


def profile(user, features):
    """What is known of a parsed user, as `serving.client.sync.Client.cold` takes it.

    Args:
        user: `{field: [values]}`.
        features: the user features.

    Returns:
        `{feature: value}`: a str or a float, or a list of either; what is missing is left out.
    """
    known = {}
    for feature in features:
        values = user.get(feature.name)
        if not values:
            continue
        if not feature.is_numeric:
            values = [value.decode("utf-8", "surrogateescape") for value in values]
        known[feature.name] = values if feature.kind == MULTI or feature.numbers > 1 else values[0]
    return known

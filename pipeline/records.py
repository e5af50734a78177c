"""Reading raw user records outside Beam."""

import tensorflow as tf


def read(files):
    """Serialized records of gzipped TFRecord `files`, in order."""
    paths = [str(path) for path in files]
    return tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator()


def parse(record):
    """A serialized user record as `{field: [values]}`; what is missing is `[]` or absent."""
    features = tf.train.Example.FromString(record).features.feature
    return {
        name: list(getattr(feature, kind).value)
        for name, feature in features.items()
        for kind in [feature.WhichOneof("kind")]
        if kind
    }

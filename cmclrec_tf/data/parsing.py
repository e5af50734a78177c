"""From serialized user records to the tensors of a batch."""

import tensorflow as tf

from cmclrec_tf.schema import COLD, HISTORY, OOV, PAD, SEGMENT, TARGET, USER_ID


def parse(serialized, schema, max_history):
    """Serialized user records [B] to a batch, see `input.PreparedDataset.batches`."""
    ragged = tf.io.RaggedFeature
    spec = {
        USER_ID: tf.io.FixedLenFeature([], tf.string),
        SEGMENT: tf.io.FixedLenFeature([], tf.string),
        HISTORY: ragged(tf.int64),
        TARGET: ragged(tf.int64),
        **{f.name: ragged(tf.float32 if f.is_numeric else tf.int64) for f in schema.features},
    }
    parsed = tf.io.parse_example(serialized, spec)
    features = {f.name: dense_feature(f, parsed[f.name]) for f in schema.features}
    return {
        "history": left_pad(parsed[HISTORY], max_history),
        "target": tf.cast(parsed[TARGET].to_tensor(PAD), tf.int32),
        "features": features,
        "is_cold": tf.equal(parsed[SEGMENT], COLD),
        "user_key": tf.strings.to_hash_bucket_fast(parsed[USER_ID], 2**62),
        "profile_key": profile_key(features),
    }


def left_pad(history, length):
    """The newest `length` known items of each row, newest at the end.

    Args:
        history: ragged int [B, None] ids; PAD and OOV are dropped.
        length: L.

    Returns:
        int32 [B, L], padded with PAD on the left.
    """
    history = tf.cast(history, tf.int32)
    history = tf.ragged.boolean_mask(history, history > OOV)[:, -length:]
    n = tf.cast(history.row_lengths(), tf.int32)[:, None]
    dense = history.to_tensor(PAD, shape=[None, length])  # padded on the right
    source = tf.range(length)[None, :] - (length - n)
    moved = tf.gather(dense, tf.maximum(source, 0), batch_dims=1)
    return tf.where(source >= 0, moved, PAD)


def dense_feature(feature, values):
    """Ragged values of one feature to int32 ids [B, W] or float32 [B, n]; PAD or NaN = missing."""
    if feature.is_numeric:
        return values.to_tensor(float("nan"), shape=[None, feature.numbers])
    width = None if feature.kind == "multi" else 1
    dense = tf.cast(values.to_tensor(PAD, shape=[None, width]), tf.int32)
    # A batch in which nobody has a value still has one column.
    return dense if width else tf.pad(dense, [[0, 0], [0, 1]], constant_values=PAD)


def profile_key(features):
    """int64 [B]: equal for users whose features are all equal.

    The order of several values does not count, and unknown is the same as missing, as in the
    tokens.
    """

    def text(values):
        if values.dtype.is_floating:
            return tf.strings.as_string(values, precision=9, scientific=True)
        return tf.strings.as_string(tf.sort(tf.where(values > OOV, values, PAD), axis=1))

    # How far a batch was padded must not count either.
    parts = [
        tf.strings.regex_replace(
            tf.strings.reduce_join(text(features[name]), axis=1, separator=","), "^(0,)+", ""
        )
        for name in sorted(features)
    ]
    return tf.strings.to_hash_bucket_fast(tf.strings.join(parts, ";"), 2**62)

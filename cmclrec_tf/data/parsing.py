"""Parses serialized user records into the tensors of a batch."""

import tensorflow as tf

from cmclrec_tf.data import numeric
from cmclrec_tf.schema import (
    COLD,
    HISTORY,
    HISTORY_TIME,
    MULTI,
    OOV,
    PAD,
    SEGMENT,
    TARGET,
    TARGET_TIME,
    USER_ID,
    Feature,
    Schema,
)
from cmclrec_tf.types import Batch, Features, IdsBL, IdsBN, KeysB, Tensor, TimesB, TimesBL


def parse(serialized: Tensor, schema: Schema, max_history: int) -> Batch:
    """Parses serialized user records, string [B], into a `Batch`.

    Args:
        serialized: `tf.Example`s with ids in place of strings.
        schema: schema of the dataset.
        max_history: L.
    """
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
    profile = {
        f.name: numeric.as_read(f, features[f.name]) if f.is_numeric else features[f.name]
        for f in schema.features
    }
    return {
        "history": left_pad(parsed[HISTORY], max_history),
        "target": tf.cast(parsed[TARGET].to_tensor(PAD), tf.int32),
        "features": features,
        "is_cold": tf.equal(parsed[SEGMENT], COLD),
        "user_key": _user_key(parsed[USER_ID]),
        "profile_key": profile_key(profile),
    }


def user_keys(serialized: Tensor) -> KeysB:
    """Parses the keys of serialized user records, string [B]: the `user_key` of `parse`."""
    spec = {USER_ID: tf.io.FixedLenFeature([], tf.string)}
    return _user_key(tf.io.parse_example(serialized, spec)[USER_ID])


def parse_times(serialized: Tensor, max_history: int) -> tuple[TimesBL, TimesB]:
    """Parses when the events of serialized user records, string [B], took place.

    Args:
        serialized: `tf.Example`s with ids in place of strings, and a time for each item.
        max_history: L.

    Returns:
        The times of the history that `parse` returns, int64 [B, L], and the time of the request,
        int64 [B], in the unit of the log: that of the last target. A record without it has the time
        of the newest item, or 0 without a history.
    """
    ragged = tf.io.RaggedFeature(tf.int64)
    spec = dict.fromkeys((HISTORY, HISTORY_TIME, TARGET_TIME), ragged)
    parsed = tf.io.parse_example(serialized, spec)
    history, times = parsed[HISTORY], parsed[HISTORY_TIME]
    known_times = left_padded(tf.ragged.boolean_mask(times, history > OOV), max_history)
    now = request_times(times, parsed[TARGET_TIME]).to_tensor(0, shape=[None, 1])
    return known_times, tf.squeeze(now, axis=1)


def request_times(history_time: tf.RaggedTensor, target_time: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns the time of each user's last target, or of the newest item where that is unknown.

    Args:
        history_time, target_time: ragged int64 [B, None], oldest first.

    Returns:
        Ragged int64 [B, None]: one time in each row, or none if both are empty.
    """
    return tf.concat([history_time[:, -1:], target_time[:, -1:]], axis=1)[:, -1:]


def _user_key(ids: Tensor) -> KeysB:
    return tf.strings.to_hash_bucket_fast(ids, 2**62)


def left_pad(history: tf.RaggedTensor, length: int) -> IdsBL:
    """Returns the newest `length` known items of each row, the newest at the end.

    Args:
        history: ragged int [B, None] ids; PAD and OOV are dropped.
        length: L.

    Returns:
        int32 [B, L], padded with PAD on the left.
    """
    history = tf.cast(history, tf.int32)
    return left_padded(tf.ragged.boolean_mask(history, history > OOV), length)


def newest_known(ids: IdsBN, length: int) -> IdsBL:
    """Returns what `left_pad` returns, of dense ids: faster for the few rows of a request.

    Args:
        ids: int32 [B, N]; PAD and OOV are dropped.
        length: L.

    Returns:
        int32 [B, L], padded with PAD on the left.

    Example:
        >>> newest_known(tf.constant([[4, 0, 5, 1, 6], [7, 0, 0, 0, 0]]), 2).numpy().tolist()
        [[5, 6], [0, 7]]
    """
    ids = tf.pad(ids, [[0, 0], [length, 0]], constant_values=PAD)  # now every row has L positions
    place = tf.range(tf.shape(ids)[1])
    places, at = tf.math.top_k(tf.where(ids > OOV, place, -1), length)  # the newest one first
    newest = tf.where(places < 0, PAD, tf.gather(ids, at, batch_dims=1))
    return tf.reverse(newest, [1])


def left_padded(values: tf.RaggedTensor, length: int) -> Tensor:
    """Returns the newest `length` values of each row [B, length], padded with 0 on the left.

    Args:
        values: ragged [B, None].
        length: L.
    """
    values = values[:, -length:]
    n = tf.cast(values.row_lengths(), tf.int32)[:, None]
    dense = values.to_tensor(0, shape=[None, length])  # padded on the right
    source = tf.range(length)[None, :] - (length - n)
    moved = tf.gather(dense, tf.maximum(source, 0), batch_dims=1)
    return tf.where(source >= 0, moved, tf.zeros_like(moved))


def dense_feature(feature: Feature, values: tf.RaggedTensor) -> Tensor:
    """Turns the ragged values of a feature into a dense tensor.

    Returns:
        int32 ids [B, N], PAD = missing, or float32 [B, N], NaN = missing.
    """
    if feature.is_numeric:
        return values.to_tensor(float("nan"), shape=[None, feature.numbers])
    width = None if feature.kind == MULTI else 1
    dense = tf.cast(values.to_tensor(PAD, shape=[None, width]), tf.int32)
    # A batch in which no user has a value still gets one column.
    return dense if width else tf.pad(dense, [[0, 0], [0, 1]], constant_values=PAD)


def profile_key(features: Features) -> KeysB:
    """Hashes the user features: int64 [B], equal for users whose features are all equal.

    The order of a feature's values does not count, and unknown equals missing, as in the feature
    tokens.
    """

    def text(values: Tensor) -> Tensor:
        if values.dtype.is_floating:
            return tf.strings.as_string(values, precision=9, scientific=True)
        return tf.strings.as_string(tf.sort(tf.where(values > OOV, values, PAD), axis=1))

    # The padding depends on the other users of the batch, so it is removed.
    parts = [
        tf.strings.regex_replace(
            tf.strings.reduce_join(text(features[name]), axis=1, separator=","), "^(0,)+", ""
        )
        for name in sorted(features)
    ]
    return tf.strings.to_hash_bucket_fast(tf.strings.join(parts, ";"), 2**62)

"""Endless training batches whose order is a pure function of seed and epoch."""

import tensorflow as tf

from cmclrec_tf.schema import PAD

# Beyond this many users records are read from their files in every epoch.
IN_MEMORY_USERS = 2_000_000
CHUNK = 100_000
# Batches among which users are sorted by length, and the multiple that lengths are cut to: a
# program compiled for a length serves often.
WINDOW = 16
STEP = 8
READ_BATCH = 4096


def in_memory(records, parse, batch_size, seed, first_epoch=0):
    """Records parsed once; an epoch is a permutation of them, and a batch one gather.

    Users of similar history lengths share a batch, whose histories are cut to the longest of them:
    padding is work for nothing. Batches come in random order, and are drawn anew in every epoch.

    Memory is that of the parsed columns: 4 N L bytes of histories for N users, and for each
    feature 4 N bytes and 4 more per further value.

    Args:
        records: `tf.data.Dataset` of serialized user records.
        parse: serialized [B] -> dict of tensors, padded with PAD, see `parsing.parse`.
        batch_size: B; one batch of an epoch may be smaller.
        seed, first_epoch: of the order.
    """
    # The columns would fill an accelerator's memory, and are gathered from by the host anyway.
    with tf.device("CPU"):
        columns = _columns(records.batch(READ_BATCH).map(parse, tf.data.AUTOTUNE))
        lengths = tf.math.count_nonzero(columns["history"] != PAD, axis=1)
    users = columns["user_key"].shape[0]

    def epoch_of(epoch):
        order = _permutation(users, seed, epoch)
        # Sorted by length within windows of some batches only, so that epochs differ.
        window = tf.range(users, dtype=tf.int64) // (WINDOW * batch_size)
        key = window * (tf.reduce_max(lengths) + 1) + tf.gather(lengths, order)
        order = tf.gather(order, tf.argsort(key, stable=True))
        starts = tf.gather(
            tf.range(0, users, batch_size), _permutation(-(-users // batch_size), seed, epoch)
        )
        return tf.data.Dataset.from_tensor_slices(starts).map(
            lambda start: order[start : start + batch_size]
        )

    def gather(rows):
        batch = tf.nest.map_structure(lambda column: _dense(tf.gather(column, rows)), columns)
        longest = tf.cast(tf.reduce_max(tf.gather(lengths, rows)), tf.int32)
        size = tf.minimum(-(-tf.maximum(longest, 1) // STEP) * STEP, tf.shape(batch["history"])[1])
        return {**batch, "history": batch["history"][:, -size:]}

    return _endless(epoch_of, first_epoch).map(gather, tf.data.AUTOTUNE, deterministic=True)


def from_files(files, parse, batch_size, seed, first_epoch=0):
    """The same without the memory: files in a random order, then records within every CHUNK.

    Args:
        files: paths of gzipped TFRecords. For the others see `in_memory`.
    """
    files = tf.constant(files)

    def epoch_of(epoch):
        order = tf.gather(files, _permutation(tf.size(files), seed, epoch))
        chunks = tf.data.TFRecordDataset(order, compression_type="GZIP").batch(CHUNK).enumerate()
        # The chunk's number goes into the seed: chunks are not shuffled alike.
        shuffled = chunks.map(
            lambda i, rows: tf.gather(rows, _permutation(tf.size(rows), seed + 1 + i, epoch))
        )
        return shuffled.unbatch().batch(batch_size)

    return _endless(epoch_of, first_epoch).map(parse, tf.data.AUTOTUNE, deterministic=True)


def _permutation(n, seed, epoch):
    return tf.random.experimental.stateless_shuffle(tf.range(n), seed=tf.stack([seed, epoch]))


def _endless(epoch_of, first_epoch):
    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_of)
    return epochs.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _columns(batches):
    """All batches under each other; columns whose width varies become ragged."""
    varies = tf.nest.map_structure(
        lambda spec: spec.shape.rank == 2 and spec.shape[1] is None, batches.element_spec
    )

    def join(ragged, *parts):
        if ragged:
            parts = [tf.RaggedTensor.from_tensor(part, padding=PAD) for part in parts]
        return tf.concat(parts, axis=0)

    return tf.nest.map_structure(join, varies, *batches)


def _dense(rows):
    if not isinstance(rows, tf.RaggedTensor):
        return rows
    dense = rows.to_tensor(PAD)
    # A batch in which nobody has a value still has one column.
    missing = tf.cast(tf.equal(tf.shape(dense)[1], 0), tf.int32)
    return tf.pad(dense, [[0, 0], [0, missing]], constant_values=PAD)

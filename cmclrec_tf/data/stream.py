"""Endless training batches in an order that depends on seed and epoch only."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

from cmclrec_tf.schema import PAD
from cmclrec_tf.types import Batch, Tensor

Parse: TypeAlias = Callable[[Tensor], Batch]
Select: TypeAlias = Callable[[Tensor], Tensor]
"""Serialized records [N] -> those that are read, [n]."""

# With more users than this, records are read from their files in every epoch.
IN_MEMORY_USERS = 2_000_000
CHUNK = 100_000
READ_BATCH = 4096


def in_memory(
    records: tf.data.Dataset,
    parse: Parse,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    one_shape: bool = False,
) -> tf.data.Dataset:
    """Returns endless batches from records that are parsed once and kept in memory.

    The users come in random order, another one in every epoch. All batches have one size: the last
    one of an epoch is filled up with the first users of the epoch. Histories are cut to the longest
    of the batch. Users of similar lengths do not share batches: that would save work on padding,
    but the loss is a mean over a batch's events, and those of short histories would weigh more.

    The memory is that of the parsed columns: 4 N L bytes of histories for N users, and for each
    feature 4 N bytes, plus 4 for every further value of a user.

    Args:
        records: serialized user records.
        parse: parses serialized records [B] into a batch padded with PAD, see `parsing.parse`.
        batch_size: B; with fewer users, a batch has them all.
        seed: seeds the order.
        first_epoch: epoch of the first batch; the order of an epoch depends on its number.
        one_shape: whether histories keep their full width, so that all batches have one shape.
    """
    # Kept on the host: an accelerator's memory is for the model.
    with tf.device("CPU"):
        columns = _columns(records.batch(READ_BATCH).map(parse, tf.data.AUTOTUNE))
        lengths = tf.math.count_nonzero(columns["history"] != PAD, axis=1)
    users = columns["user_key"].shape[0]
    batch_size = min(batch_size, users)
    batches = -(-users // batch_size)
    widths = tf.nest.map_structure(_width if one_shape else lambda _: None, columns)

    def epoch_of(epoch: Tensor) -> tf.data.Dataset:
        order = _permutation(users, seed, epoch)
        order = tf.gather(order, tf.range(batches * batch_size) % users)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, (batches, batch_size)))

    def gather(rows: Tensor) -> Batch:
        batch: Batch = tf.nest.map_structure(
            lambda column, width: _dense(tf.gather(column, rows), batch_size, width),
            columns,
            widths,
        )
        if one_shape:
            return batch
        longest = tf.maximum(tf.reduce_max(tf.gather(lengths, rows)), 1)
        for name in ("history", "history_time"):
            if name in batch:
                batch[name] = batch[name][:, -longest:]
        return batch

    return _endless(epoch_of, first_epoch).map(gather, tf.data.AUTOTUNE, deterministic=True)


def from_files(
    files: Sequence[str],
    parse: Parse,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    select: Select | None = None,
) -> tf.data.Dataset:
    """Returns endless batches that are read from files: no memory, but a weaker shuffle.

    The files come in random order, and records are shuffled within chunks of CHUNK.

    Args:
        files: paths of gzipped TFRecords.
        parse, batch_size, seed, first_epoch: as in `in_memory`.
        select: chooses the records that are read; None reads all.
    """
    files = tf.constant(files)

    def epoch_of(epoch: Tensor) -> tf.data.Dataset:
        order = tf.gather(files, _permutation(tf.size(files), seed, epoch))
        chunks = tf.data.TFRecordDataset(order, compression_type="GZIP").batch(CHUNK)
        chunks = chunks.map(select) if select else chunks
        # With the chunk's number in the seed, chunks are shuffled differently.
        shuffled = chunks.enumerate().map(
            lambda i, rows: tf.gather(rows, _permutation(tf.size(rows), seed + 1 + i, epoch))
        )
        return shuffled.unbatch().batch(batch_size)

    return _endless(epoch_of, first_epoch).map(parse, tf.data.AUTOTUNE, deterministic=True)


def _permutation(n: Tensor | int, seed: Tensor | int, epoch: Tensor) -> Tensor:
    return tf.random.experimental.stateless_shuffle(tf.range(n), seed=tf.stack([seed, epoch]))


def _endless(epoch_of: Callable[[Tensor], tf.data.Dataset], first_epoch: int) -> tf.data.Dataset:
    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_of)
    return epochs.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _columns(batches: tf.data.Dataset) -> Batch:
    """Concatenates all batches; columns of varying width become ragged."""
    varies = tf.nest.map_structure(
        lambda spec: spec.shape.rank == 2 and spec.shape[1] is None, batches.element_spec
    )

    def join(ragged: bool, *parts: Tensor) -> Tensor:
        if ragged:
            return tf.concat(
                [tf.RaggedTensor.from_tensor(part, padding=PAD) for part in parts], axis=0
            )
        return tf.concat(parts, axis=0)

    columns: Batch = tf.nest.map_structure(join, varies, *batches)
    return columns


def _width(column: Tensor) -> int | None:
    """Returns the number of values of the row that has most; None for a dense column."""
    if not isinstance(column, tf.RaggedTensor):
        return None
    return max(1, int(column.bounding_shape(axis=1)))


def _dense(rows: Tensor, count: int, width: int | None) -> Tensor:
    """Returns ragged rows as a matrix [count, width]; a width of None is what they need."""
    if not isinstance(rows, tf.RaggedTensor):
        return rows
    dense = rows.to_tensor(PAD, shape=[count, width])
    # A batch in which no user has a value still gets one column.
    missing = tf.cast(tf.equal(tf.shape(dense)[1], 0), tf.int32)
    return tf.pad(dense, [[0, 0], [0, missing]], constant_values=PAD)

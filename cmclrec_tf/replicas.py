"""Lets several replicas of a `tf.distribute` strategy compute what one replica computes.

Each replica gets a part of the rows of a batch. Within a train step, a loss function returns the
replica's *share* of the loss: its own numerator over the denominator of the whole batch. The shares
add up to the loss of the whole batch. So do their gradients, because Keras's optimizers sum them.
Without a strategy, and outside of a step, the functions below change nothing. If a worker dies,
training stops; restart all workers to resume.

In shapes, b is the number of rows of one replica and B that of the whole batch.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import TRAIN
from cmclrec_tf.types import BoolNN, FloatN, Scalar, Seed, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

# Each replica of a process is traced in a thread of its own.
_thread = threading.local()


def find_strategy() -> tf.distribute.Strategy:
    """Returns the strategy that fits this process's environment, for `with strategy.scope():`.

    When TF_CONFIG names several workers, call this before anything else of TensorFlow: collective
    operations can be set up only at the start of a process.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy` when TF_CONFIG names several workers, else
        `MirroredStrategy` when several GPUs are visible, else the default strategy.

    Raises:
        InputError: TF_CONFIG is not a JSON object.
    """
    if len(_workers()) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _workers() -> list[str]:
    """Returns the addresses of the workers that train, without parameter servers."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster") or {}
        return [address for kind in ("chief", "worker") for address in cluster.get(kind, ())]
    except (ValueError, AttributeError) as error:
        fix = "See docs/training.md for an example."
        raise InputError(f"TF_CONFIG={text!r}", "it must be a JSON object", fix) from error


def is_chief() -> bool:
    """Returns whether this process is the chief, the worker that writes all files."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return bool((resolver.task_type, resolver.task_id) == (first, 0))


def total(values: Tensor) -> Tensor:
    """Returns the sum over all replicas of a tensor, or of each tensor in a structure.

    No gradient flows through it.
    """
    context = _replica_context()
    if not context:
        return values
    values = tf.nest.map_structure(lambda x: tf.stop_gradient(_on_own_device(x)), values)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def gather(x: Tensor) -> Tensor:
    """Returns the rows of all replicas, in order: [b, ...] -> [B, ...].

    The gradient of a replica's rows sums up the gradients of the losses of all replicas.
    """
    context = _replica_context()
    if not context:
        return x

    @tf.custom_gradient
    def gather_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        rows = tf.shape(x)[0]
        before, _ = rows_before_and_total(rows)

        # The gradient of `all_gather` itself would exchange the numbers of rows again.
        def gradient(upstream: Tensor) -> Tensor:
            return total(upstream)[before : before + rows]

        return _all_gather(context, x), gradient

    return gather_rows(x)


def _all_gather(context: tf.distribute.ReplicaContext, x: Tensor) -> Tensor:
    return context.all_gather(_on_own_device(x), axis=0)


def _on_own_device(x: Tensor) -> Tensor:
    """Places x on the replica's device by name: the exchange between workers requires that."""
    devices = tf.distribute.get_strategy().extended.worker_devices  # those of this process
    replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
    with tf.device(devices[replica % len(devices)]):
        return tf.identity(x)


def share_of(loss: Scalar) -> Scalar:
    """Returns the replica's share of a loss that every replica computes on the whole batch."""
    context = _replica_context()
    return loss / context.num_replicas_in_sync if context else loss


@contextlib.contextmanager
def step(rows: Scalar) -> Iterator[None]:
    """Runs a train step: `rows_before_and_total` then needs one exchange for the whole step.

    Args:
        rows: int scalar, the number of rows of this replica.
    """
    _thread.rows = rows_before_and_total(rows)
    try:
        yield
    finally:
        del _thread.rows


def rows_before_and_total(rows: Scalar) -> tuple[Scalar, Scalar]:
    """Returns how many rows the replicas before this one have, and how many all of them have.

    Args:
        rows: int scalar, the number of rows of this replica. Replicas differ in a short batch.
            Within a `step`, the numbers of the step's batch are returned whatever `rows` is.
    """
    context = _replica_context()
    if not context:
        return 0, rows
    if hasattr(_thread, "rows"):
        before, all_rows = _thread.rows
        return before, all_rows
    counts = _all_gather(context, tf.reshape(tf.cast(rows, tf.int32), (1,)))
    return tf.reduce_sum(counts[: context.replica_id_in_sync_group]), tf.reduce_sum(counts)


def uniform(shape: tuple[Scalar, ...], seed: Seed) -> Tensor:
    """Returns uniform numbers in [0, 1) that do not depend on which replica holds a row.

    Args:
        shape: [b, ...], rows first.
        seed: a `keras.random.SeedGenerator`, in the same state on every replica, or an int.

    Returns:
        float [b, ...]: the replica's rows of the numbers for the whole batch.
    """
    before, all_rows = rows_before_and_total(shape[0])
    numbers = keras.random.uniform((all_rows, *shape[1:]), seed=seed)
    return numbers if all_rows is shape[0] else numbers[before : before + shape[0]]


def same_row(rows: Scalar, all_rows: Scalar) -> BoolNN:
    """Returns bool [b, B]: True where row i of this replica is row j of the whole batch.

    Args:
        rows: b. all_rows: B.
    """
    before, _ = rows_before_and_total(rows)
    return (ops.arange(rows) + before)[:, None] == ops.arange(all_rows)[None]


def mean(values: FloatN, weights: FloatN | None = None) -> Scalar:
    """Returns the replica's share of the (weighted) mean of its rows over the whole batch.

    Args:
        values: float [b].
        weights: float [b]; None counts every row once. The mean is 0 when all weights are 0.
    """
    if weights is None:
        _, rows = rows_before_and_total(ops.shape(values)[0])
        return ops.sum(values) / ops.cast(rows, values.dtype)
    weights = ops.cast(weights, values.dtype)
    return ops.sum(values * weights) / ops.maximum(total(ops.sum(weights)), 1e-9)


def step_result(value: Scalar) -> Tensor:
    """Returns a metric in the shape that a step must return it in.

    With several workers Keras averages over the rows of what they return, so it needs a row.
    """
    workers = isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
    return value[None] if workers else value


def split_batches(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Gives each replica its part of every batch; parts differ by one row at most.

    Args:
        batches: an endless `tf.data.Dataset` of dicts, the same one in every worker.

    Returns:
        The data for `fit` under the current strategy; `batches` itself with one replica.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return batches

    def parts_of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local_replicas = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local_replicas

        def split(batch: dict[str, Tensor]) -> tf.data.Dataset:
            rows = tf.shape(batch["user_key"])[0]

            def part(replica: Scalar) -> dict[str, Tensor]:
                span = slice(rows * replica // replicas, rows * (replica + 1) // replicas)
                return tf.nest.map_structure(lambda column: column[span], batch)

            ids = tf.data.Dataset.range(first, first + local_replicas, output_type=tf.int32)
            return ids.map(part)

        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.flat_map(split).apply(endless).prefetch(local_replicas)

    return strategy.distribute_datasets_from_function(parts_of_worker)


def check_same(name: str, value: int) -> None:
    """Barrier: waits for all workers, and checks that they hold the same value.

    Args:
        name: names the value in the error.
        value: an integer of this worker.

    Raises:
        InputError: another worker has another value.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function
    def gather_values() -> Tensor:
        return strategy.run(lambda: gather(tf.constant([value])))

    values = strategy.experimental_local_results(gather_values())[0].numpy().tolist()
    distinct = sorted(set(values))
    if len(distinct) > 1:
        raise InputError(
            f"{name}: {distinct}",
            "all workers must start from the same checkpoint",
            "Give them one folder that all of them see.",
        )


def plain_copy(model: keras.Model, dataset: "PreparedDataset") -> keras.Model:
    """Returns the model without its strategy, with the same weights: for saving and export.

    Call it outside of the strategy's scope.

    Args:
        model: a built `StagedModel`, trained under a strategy or not.
        dataset: the `PreparedDataset` that it was trained on; one of its batches builds the copy.
    """
    if isinstance(model.distribute_strategy, type(tf.distribute.get_strategy())):
        return model
    copy = type(model).create(model.schema, model.config)
    readable = dataset.with_history(model.config.data.max_history)
    copy(next(iter(readable.batches(TRAIN, shuffle=False))))
    copy.set_weights(model.get_weights())
    return copy


def _replica_context() -> tf.distribute.ReplicaContext | None:
    """Returns the replica's context; None with one replica, and outside of a step."""
    context = tf.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None

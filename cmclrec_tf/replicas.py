"""Several replicas under a strategy of `tf.distribute`, which compute what one would on the batch.

A replica sees its part of the rows. Within a step a loss function returns the replica's share of
the loss: a numerator of its own over a denominator of the whole batch. The shares add up to the
loss of the whole batch, and so do their gradients, which Keras's optimizers sum. Without a
strategy, and outside of a step, these functions are the identity, or the plain draw.
"""

import contextlib
import json
import os
import threading

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import TRAIN

# Replicas of one process are traced by a thread each.
_here = threading.local()


def strategy_here():
    """The strategy that this process's environment asks for, for `with strategy.scope():`.

    To be called before anything else of TensorFlow when TF_CONFIG names several workers: the
    collective operations are set up at the start of a process.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy` when TF_CONFIG names several workers, else
        `MirroredStrategy` when several GPUs are visible, else the default strategy.

    Raises:
        InputError: TF_CONFIG is no JSON object.
    """
    if len(_workers()) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _workers():
    """Addresses of the workers that train, by TF_CONFIG; parameter servers are not among them."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster") or {}
        return [address for kind in ("chief", "worker") for address in cluster.get(kind, ())]
    except (ValueError, AttributeError) as error:
        mend = "See docs/training.md for an example."
        raise InputError(f"TF_CONFIG={text!r}", "it must be a JSON object", mend) from error


def is_chief():
    """Whether this process writes what all of them share: checkpoints, logs, the model."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def total(values):
    """The sum over all replicas of a tensor, or of each in a structure of them; no gradient."""
    context = _context()
    if not context:
        return values
    values = tf.nest.map_structure(lambda x: tf.stop_gradient(_placed(x)), values)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def gathered(x):
    """The rows of all replicas in their order: [b, ...] -> [B, ...].

    The gradient of a replica's rows is the sum of what all the replicas' losses say of them.
    """
    context = _context()
    if not context:
        return x

    @tf.custom_gradient
    def gather(x):
        rows = tf.shape(x)[0]
        before, _ = place(rows)

        # The gradient of `all_gather` itself would ask for the numbers of rows once more.
        def gradient(upstream):
            return total(upstream)[before : before + rows]

        return _all_gather(context, x), gradient

    return gather(x)


def _all_gather(context, x):
    return context.all_gather(_placed(x), axis=0)


def _placed(x):
    """On the replica's device by name: the exchange between workers takes nothing else."""
    own = tf.distribute.get_strategy().extended.worker_devices  # those of this process
    replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
    with tf.device(own[replica % len(own)]):
        return tf.identity(x)


def shared(loss):
    """A replica's share of a loss that each replica computes on the whole, gathered batch."""
    context = _context()
    return loss / context.num_replicas_in_sync if context else loss


@contextlib.contextmanager
def step(rows):
    """Within it `place` knows its answer: one exchange serves a whole step.

    Args:
        rows: of this replica's batch.
    """
    _here.place = place(rows)
    try:
        yield
    finally:
        del _here.place


def place(rows):
    """How many rows the replicas before this one have, and all of them together.

    Args:
        rows: of this replica; they differ in a short batch. Within a `step`, those of the batch.
    """
    context = _context()
    if not context:
        return 0, rows
    if hasattr(_here, "place"):
        return _here.place
    counts = _all_gather(context, tf.reshape(tf.cast(rows, tf.int32), (1,)))
    return tf.reduce_sum(counts[: context.replica_id_in_sync_group]), tf.reduce_sum(counts)


def uniform(shape, seed):
    """`keras.random.uniform` whose numbers for a row do not depend on which replica has the row.

    Args:
        shape: [b, ...], rows first.
        seed: a `keras.random.SeedGenerator`, in the same state on every replica, or int.
    """
    before, rows = place(shape[0])
    drawn = keras.random.uniform((rows, *shape[1:]), seed=seed)
    return drawn if rows is shape[0] else drawn[before : before + shape[0]]


def itself(rows, all_rows):
    """bool [b, B]: which of the batch's rows each of the replica's own rows is."""
    before, _ = place(rows)
    return (ops.arange(rows) + before)[:, None] == ops.arange(all_rows)[None]


def mean(values, weights=None):
    """Returns the replica's share of the (weighted) mean of its rows over the whole batch.

    Args:
        values: float [b].
        weights: float [b]; None counts every row once. The mean is 0 when all weights are 0.
    """
    if weights is None:
        _, rows = place(ops.shape(values)[0])
        return ops.sum(values) / ops.cast(rows, values.dtype)
    weights = ops.cast(weights, values.dtype)
    return ops.sum(values * weights) / ops.maximum(total(ops.sum(weights)), 1e-9)


def reported(value):
    """A scalar as a step must return it: Keras averages over the rows of what workers report."""
    workers = isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
    return value[None] if workers else value


def parted(batches):
    """Hands each replica its part of every batch: parts of equal size, to a row.

    Args:
        batches: an endless `tf.data.Dataset` of dicts, the same one in every worker.

    Returns:
        What `fit` takes under the current strategy: `batches` itself without one.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return batches

    def of_worker(context):
        replicas = context.num_replicas_in_sync
        own = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * own

        def split(batch):
            rows = tf.shape(batch["user_key"])[0]

            def part(replica):
                span = slice(rows * replica // replicas, rows * (replica + 1) // replicas)
                return tf.nest.map_structure(lambda column: column[span], batch)

            return tf.data.Dataset.range(first, first + own, output_type=tf.int32).map(part)

        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.flat_map(split).apply(endless).prefetch(own)

    return strategy.distribute_datasets_from_function(of_worker)


def check_same(name, value) -> None:
    """Waits for all workers, and makes sure that they are at the same point.

    Args:
        name: of what must be the same, for the error.
        value: an integer of this worker.

    Raises:
        InputError: another worker has another value.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function
    def ask():
        return strategy.run(lambda: gathered(tf.constant([value])))

    found = sorted(set(strategy.experimental_local_results(ask())[0].numpy().tolist()))
    if len(found) > 1:
        raise InputError(
            f"{name}: {found}",
            "all workers must start from the same checkpoint",
            "Give them one folder that all of them see.",
        )


def plain_copy(model, dataset):
    """The model outside of its strategy, with the same weights: for saving and export.

    To be called outside of the strategy's scope.

    Args:
        model: a built `StagedModel`, trained under a strategy or not.
        dataset: the `PreparedDataset` that it was trained on; a batch of it builds the copy.
    """
    if isinstance(model.distribute_strategy, type(tf.distribute.get_strategy())):
        return model
    copy = type(model)(model.schema, model.config)
    cut = dataset.with_history(model.config.data.max_history)
    copy(next(iter(cut.batches(TRAIN, shuffle=False))))
    copy.set_weights(model.get_weights())
    return copy


def _context():
    """The context of a replica, None where there is but one or the code is outside of a step."""
    context = tf.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None

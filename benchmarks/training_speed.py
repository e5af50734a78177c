"""Measures training in examples per second, against other libraries and the machine's rate.

RecBole's SASRec and a plain one by torch.compile train on the same histories with the same sizes:
blocks, heads, widths, dropout, batch, loss at the last position over all items. RecTools' has its
loss at every position, and so has the SASRec that it is compared with. A rate is that of the
fastest epoch, on both sides of a ratio: other work on the machine slows an epoch, and nothing
makes one faster. The rate of the machine is that of a large matrix product.

    python -m benchmarks.training_speed
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks import peers, performance_table, synthetic
from benchmarks.performance_table import Row

if TYPE_CHECKING:
    import keras

    from cmclrec_tf.data.prepared import PreparedDataset

WIDTH, BLOCKS, HEADS, BATCH, DROPOUT = 64, 2, 2, 128, 0.2
SIZES = peers.Sizes(
    length=synthetic.LENGTH,
    width=WIDTH,
    inner=2 * WIDTH,
    blocks=BLOCKS,
    heads=HEADS,
    dropout=DROPOUT,
    batch=BATCH,
)
# The loss of RecBole: last position, all items.
_LAST: dict[str, Any] = {"model.positions": "last", "finetune.softmax": "full"}
# The peers do not average the weights.
ALONE = {**_LAST, "finetune.ema": 0.0}
# The loss of RecTools: every position, all items.
_EVERY = {"model.positions": "every", "finetune.softmax": "chunked", "finetune.ema": 0.0}


def measure(quick: bool) -> Iterator[Row]:
    """Yields rows of the backbone alone and of stage 2."""
    from benchmarks.machine import matmul_gflops
    from cmclrec_tf.models import CMCLRec, PlainRecommender
    from cmclrec_tf.training import averaged_adam, decay_feature_side

    users, few, many = (512, 2, 3) if quick else (3840, 4, 10)
    histories = synthetic.histories(users)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        dataset = synthetic.prepared(folder / "prepared", histories)
        plain, stage2 = (PlainRecommender, averaged_adam), (CMCLRec, decay_feature_side)
        recbole = peers.recbole(folder, histories, SIZES, few)
        compiled_torch = peers.torch_compile(folder, histories, SIZES, many)
        alone = users / _epoch_seconds(*plain, dataset, ALONE, many)
        rectools = peers.rectools(folder, histories, SIZES, few)
        every = users / _epoch_seconds(*plain, dataset, _EVERY, few)
        stage2_last = users / _epoch_seconds(*stage2, dataset, _LAST, few)
        stage2_default = users / _epoch_seconds(*stage2, dataset, {}, few)
    shape = f"D {WIDTH}, L {synthetic.LENGTH}, B {BATCH}, V {synthetic.ITEMS:,}"
    last = f"{shape}, last position, full softmax"
    yield recbole.row(
        "training, SASRec alone: examples/s against RecBole's", alone, at_least=1.5, more=last
    )
    yield compiled_torch.row(
        "training, SASRec alone: examples/s against a SASRec by torch.compile",
        alone,
        at_least=1.0,
        more=last,
    )
    yield rectools.row(
        "training, SASRec alone with a loss at every position: examples/s against RecTools'",
        every,
        more=f"{shape}, every position, full softmax",
    )
    yield recbole.row(
        "training, stage 2 of CMCLRec: examples/s against RecBole's plain SASRec",
        stage2_last,
        at_least=0.8,
    )
    yield recbole.row(
        "training, stage 2 as `default` is: next items learned/s against RecBole's",
        stage2_default * synthetic.LENGTH,
        f"{stage2_default:,.0f} users/s, {synthetic.LENGTH} next items each, sampled softmax",
    )
    limit = matmul_gflops()
    gflops = alone * flops_of_an_example() / 1e9
    yield Row(
        "training, SASRec alone: share of the matrix product rate",
        gflops / limit,
        "",
        at_least=0.4,
        detail=f"{gflops:.0f} of {limit:.0f} GFLOP/s",
    )


def flops_of_an_example() -> int:
    """Returns the FLOPs of an example's matrix products: forward, plus twice as many backward.

    Keys and values are computed at every position; the last block has one query, at the newest
    position.
    """
    queries = [synthetic.LENGTH] * (BLOCKS - 1) + [1]
    projections = sum((2 * synthetic.LENGTH + (1 + 1 + 2 + 2) * n) * 2 * WIDTH**2 for n in queries)
    attention = sum(2 * 2 * n * synthetic.LENGTH * WIDTH for n in queries)
    return 3 * (projections + attention + 2 * synthetic.ITEMS * WIDTH)


def _epoch_seconds(
    make_model: Callable[..., Any],
    make_optimizer: Callable[..., Any],
    dataset: PreparedDataset,
    changes: Mapping[str, Any],
    epochs: int,
) -> float:
    """Returns the median seconds of an epoch, without the first, which traces the step."""
    model = compiled(make_model, make_optimizer, dataset, changes)
    return statistics.median(seconds_of_epochs(model, dataset, epochs)[1:])


def seconds_of_epochs(
    model: keras.Model, dataset: PreparedDataset, epochs: int, steps: int | None = None
) -> list[float]:
    """Trains, and returns the seconds of each epoch; the first one traces the step.

    Args: see `fit`.
    """
    import keras

    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    fit(model, dataset, epochs, Clock(), steps=steps)
    return seconds


def compiled(
    make_model: Callable[..., Any],
    make_optimizer: Callable[..., Any],
    dataset: PreparedDataset,
    changes: Mapping[str, Any],
) -> keras.Model:
    """Returns a model of the benchmark's sizes that is ready for `fit`.

    Args:
        make_model: (schema, config) -> model.
        make_optimizer: (model, stage config) -> optimizer.
        dataset: the training data.
        changes: further settings, by their dotted names.
    """
    from cmclrec_tf import Config
    from cmclrec_tf.models.staged import dtype_policy

    sizes = {
        "model.width": WIDTH,
        "model.blocks": BLOCKS,
        "model.heads": HEADS,
        "model.dropout": DROPOUT,
        "finetune.batch_size": BATCH,
        "data.max_history": synthetic.LENGTH,
    }
    config = Config().changed({**sizes, **changes})
    with dtype_policy(config.compute.precision):
        model = make_model(dataset.schema, config)
    model(next(iter(dataset.batches("train", 2, shuffle=False))))
    optimizer = make_optimizer(model, config.finetune)
    model.compile(optimizer, jit_compile=config.compute.keras_jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(
    model: keras.Model,
    dataset: PreparedDataset,
    epochs: int,
    *callbacks: keras.callbacks.Callback,
    steps: int | None = None,
) -> None:
    """Trains on the same stream of batches as the training driver.

    Args:
        model: from `compiled`.
        dataset: the training data.
        epochs: number of epochs.
        callbacks: further callbacks.
        steps: batches of an epoch; None reads the train split once.
    """
    batch = model.config.finetune.batch_size
    stream = dataset.stream("train", batch, one_shape=model.jit_compile)
    steps = steps or dataset.steps("train", batch)
    model.fit(stream, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=callbacks)


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

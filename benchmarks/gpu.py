"""Measures training steps on a GPU: by model, size, precision, with XLA and without.

Every figure is that of `fit` on a synthetic dataset, without the first epoch, which compiles. On a
machine without a GPU the rows say "not run".

    python -m benchmarks.gpu
    python -m benchmarks.gpu --quick  # one small size, on a CPU where there is no GPU
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import statistics
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks import performance_table, synthetic, training_speed
from benchmarks.performance_table import Row

if TYPE_CHECKING:
    import keras

    from cmclrec_tf.data.prepared import PreparedDataset

# Users of the dataset, batches of an epoch, and epochs after the one that compiles.
_USERS, _STEPS, _EPOCHS = 8192, 50, 3
_PRECISIONS = ("float32", "mixed_bfloat16")
_XLA = {"never": "", "always": ", XLA"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measured training.

    Attributes:
        model: `default`, stage 2 of the preset, or `SASRec`, the backbone alone.
        precision, jit_compile: as in `ComputeConfig`.
        width: D.
        length: L.
        batch: B.
    """

    model: str
    precision: str = "mixed_bfloat16"
    jit_compile: str = "always"
    width: int = 64
    length: int = 50
    batch: int = 1024

    @property
    def changes(self) -> dict[str, Any]:
        """The settings by which it differs from the other benchmarks of training."""
        changes = {
            "compute.precision": self.precision,
            "compute.jit_compile": self.jit_compile,
            "model.width": self.width,
            "data.max_history": self.length,
            "finetune.batch_size": self.batch,
        }
        return changes if self.model == "default" else {**training_speed.ALONE, **changes}

    def compiled(self, dataset: PreparedDataset) -> keras.Model:
        """Returns the model, ready for `training_speed.fit` on a dataset of its length."""
        from cmclrec_tf.models import CMCLRec, PlainRecommender
        from cmclrec_tf.training import averaged_adam, decay_feature_side

        if self.model == "default":
            return training_speed.compiled(CMCLRec, decay_feature_side, dataset, self.changes)
        return training_speed.compiled(PlainRecommender, averaged_adam, dataset, self.changes)

    def __str__(self) -> str:
        sizes = f"D {self.width}, L {self.length}, B {self.batch}"
        return f"{self.model}, {sizes}, {self.precision}{_XLA[self.jit_compile]}"


def cells() -> list[Cell]:
    """Returns what is measured: the ways to compute at one size, then sizes by the fastest way."""
    ways = [
        Cell(model, precision, jit_compile)
        for model, jit_compile, precision in itertools.product(
            ("default", "SASRec"), reversed(_XLA), _PRECISIONS
        )
    ]
    sizes = [
        Cell("default", batch=128),
        Cell("default", batch=4096),
        Cell("default", length=200),
        Cell("default", width=256),
        Cell("default", width=256, length=200),
    ]
    return ways + sizes


def measure(quick: bool) -> Iterator[Row]:
    """Yields a row for each cell."""
    from benchmarks.machine import gpu

    runs = quick or gpu()
    with tempfile.TemporaryDirectory() as folder:
        datasets: dict[int, PreparedDataset] = {}
        for cell in [Cell("default", batch=32)] if quick else cells():
            what = f"training on a GPU, {cell}: examples/s"
            if not runs:
                yield Row(what, None, "", detail="no GPU here")
                continue
            if cell.length not in datasets:
                items = synthetic.histories(64 if quick else _USERS, cell.length)
                path = pathlib.Path(folder, str(cell.length))
                datasets[cell.length] = synthetic.prepared(path, items)
            value, detail = _measured(cell, datasets[cell.length], 2 if quick else _STEPS)
            yield Row(what, value, "/s", detail=detail)


def _measured(cell: Cell, dataset: PreparedDataset, steps: int) -> tuple[float, str]:
    """Returns examples/s and what else there is to say."""
    from benchmarks.machine import device_peak, forget_peak, gpu, matmul_gflops

    forget_peak()
    model = cell.compiled(dataset)
    first, *later = training_speed.seconds_of_epochs(model, dataset, 1 + _EPOCHS, steps)
    step = statistics.median(later) / steps
    flops = product_flops(model, dataset)
    gflops = flops / step / 1e9
    rate = matmul_gflops(8192 if gpu() else 512, dtype=cell.precision.removeprefix("mixed_"))
    detail = (
        f"{gpu() or 'CPU'}; {1e3 * step:.2f} ms a step; products {gflops:,.0f} of "
        f"{rate:,.0f} GFLOP/s, {gflops / rate:.1%}; {device_peak():,.0f} MiB at the peak; "
        f"first epoch {first:.0f} s"
    )
    return cell.batch / step, detail


def product_flops(model: keras.Model, dataset: PreparedDataset) -> int:
    """Returns the FLOPs of the matrix products in one training step, forward and backward.

    They are counted in the graph of the step.

    Args:
        model: from `training_speed.compiled`; it cannot train afterwards.
        dataset: the training data.
    """
    import tensorflow as tf

    model.jit_compile = True  # only then are all shapes known
    batch = next(iter(dataset.stream("train", model.config.finetune.batch_size, one_shape=True)))
    spec = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), batch)
    graph = tf.function(model.train_step).get_concrete_function(spec).graph
    total = 0
    for operation in graph.get_operations():
        if transposed := _TRANSPOSED.get(operation.type):
            axis = -2 if operation.get_attr(transposed) else -1
            inner, result = operation.inputs[0].shape[axis], operation.outputs[0].shape
            total += 2 * inner * result.num_elements()
    return total


# Matrix products, and the attribute that says whether the first factor is transposed.
_TRANSPOSED = {"MatMul": "transpose_a", "BatchMatMulV2": "adj_x"}


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

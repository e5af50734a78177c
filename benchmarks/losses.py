"""Measures time and peak memory of Eq. (14) and its gradients as the number of items grows.

It compares three methods: scores of all items at once (`materialised`), the exact loss in chunks
(`exact`) and the loss over sampled items (`sampled`). Each time is shown with its lower bound, the
three matrix products of the loss at the machine's rate.

    python -m benchmarks.losses
"""

from collections.abc import Iterator

from benchmarks import performance_table
from benchmarks.performance_table import Row

WIDTH, BATCH, LENGTH, NEGATIVES = 64, 128, 50, 1024
METHODS = ("materialised", "exact", "sampled")
# Larger [B L, V] scores, with their softmax and gradient, need too much memory.
_MAX_MATERIALISED = 10_000
_MAX_MEBIBYTES = 2048


def measure(quick: bool) -> Iterator[Row]:
    """Yields the rows of every method and catalogue size."""
    for size in (1000, 10_000) if quick else (10_000, 100_000, 1_000_000):
        for method in METHODS:
            if method == "materialised" and size > _MAX_MATERIALISED:
                continue
            figures = performance_table.run_in_process("losses", method, size)
            seconds = figures["seconds"]
            floor, rate = figures["floor"], figures["gflops"]
            detail = f"floor {floor:.2g} s: its products at {rate:.0f} GFLOP/s"
            yield Row(f"loss, {method}, V = {size:,}: time", seconds, "s", detail=detail)
            limit = _MAX_MEBIBYTES if (method, size) == ("exact", 1_000_000) else None
            yield Row(
                f"loss, {method}, V = {size:,}: peak memory of the process",
                figures["mebibytes"],
                "MiB",
                at_most=limit,
                detail=f"{figures['before']:.0f} MiB before the first step",
            )


def measure_one(method: str, items: str) -> dict[str, float]:
    """Measures one method and catalogue size in this process.

    Args:
        method: one of METHODS.
        items: number of items.

    Returns:
        `seconds`: median time of a step; `floor`: its lower bound; `gflops`: rate of matrix
        products; `before` and `mebibytes`: peak memory before and after the steps.
    """
    import numpy as np
    import tensorflow as tf

    from benchmarks.machine import matmul_gflops, median_seconds, peak_mebibytes
    from cmclrec_tf.losses.chunked_next_item import chunked_next_item
    from cmclrec_tf.losses.next_item import next_item
    from cmclrec_tf.losses.sampled_next_item import sampled_next_item, zipf_quantiles
    from cmclrec_tf.schema import FIRST_ID

    size, rng = int(items), np.random.default_rng(0)
    rows = BATCH * LENGTH
    spread = WIDTH**-0.25
    states = tf.Variable(tf.random.stateless_normal([rows, WIDTH], (0, 1), stddev=spread))
    # 1,000 random vectors are repeated: random numbers for all items would need more memory than
    # the step.
    some = tf.random.stateless_normal([1000, WIDTH], (0, 2), stddev=spread)
    vectors = tf.Variable(tf.tile(some, [size // 1000, 1]))
    bias = tf.Variable(tf.zeros(size))
    labels = tf.constant(rng.integers(FIRST_ID, size, rows), tf.int32)
    weights = tf.fill([rows], 1.0 / rows)
    quantiles = tf.constant(rng.random(NEGATIVES), tf.float32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            if method == "exact":
                loss = chunked_next_item(states, vectors, bias, labels, weights)
            elif method == "sampled":
                sample = zipf_quantiles(quantiles, size)
                loss = sampled_next_item(states, vectors, bias, labels, weights, *sample)
            else:
                scores = tf.matmul(states, vectors, transpose_b=True) + bias
                loss = tf.reduce_sum(next_item(scores, labels) * weights)
        # The sums keep the step from returning tensors as large as the gradients.
        gradients = tape.gradient(loss, [states, vectors, bias])
        return loss, [tf.reduce_sum(tf.convert_to_tensor(g)) for g in gradients]

    before = peak_mebibytes()
    seconds = median_seconds(step, 1 if size >= 1_000_000 else 3)
    scored = NEGATIVES if method == "sampled" else size
    gflops = matmul_gflops()
    return {
        "seconds": seconds,
        "floor": 3 * 2e-9 * rows * scored * WIDTH / gflops,
        "gflops": gflops,
        "before": before,
        "mebibytes": peak_mebibytes(),
    }


if __name__ == "__main__":
    performance_table.main(measure, __doc__, measure_one)

"""Eq. (14) over growing catalogues: time and peak memory of a loss and its gradients.

python -m benchmarks.losses
"""

from benchmarks import performance_table
from benchmarks.performance_table import Row

WIDTH, BATCH, LENGTH, NEGATIVES = 64, 128, 50, 1024
WAYS = ("materialised", "exact", "sampled")
# The whole [B L, V] at once, and as much again for its softmax and gradient, fits no longer.
_MOST_MATERIALISED = 10_000
_MEMORY = 2048


def measure(quick):
    """Rows for every way and catalogue size."""
    found = {}
    for size in (1000, 10_000) if quick else (10_000, 100_000, 1_000_000):
        for way in WAYS:
            if way == "materialised" and size > _MOST_MATERIALISED:
                continue
            one = performance_table.in_a_process("losses", way, size)
            found[way, size] = one
            seconds = one["seconds"]
            floor, rate = one["floor"], one["gflops"]
            detail = f"floor {floor:.2g} s: its products at {rate:.0f} GFLOP/s"
            yield Row(f"loss, {way}, V = {size:,}: time", seconds, "s", detail=detail)
            limit = _MEMORY if (way, size) == ("exact", 1_000_000) else None
            yield Row(
                f"loss, {way}, V = {size:,}: peak memory of the process",
                one["mebibytes"],
                "MiB",
                at_most=limit,
                detail=f"{one['before']:.0f} MiB before the first step",
            )


def one(way, size):
    """One way in this process, whose peak is its own.

    Returns:
        {seconds: the median of a step, floor, gflops, before, mebibytes: peak}.
    """
    import numpy as np
    import tensorflow as tf

    from benchmarks.machine import matmul_gflops, median_seconds, peak_mebibytes
    from cmclrec_tf.losses.next_item import (
        chunked_next_item,
        next_item,
        sampled_next_item,
        zipf_quantiles,
    )
    from cmclrec_tf.schema import FIRST_ID

    size, rng = int(size), np.random.default_rng(0)
    rows = BATCH * LENGTH
    spread = WIDTH**-0.25
    states = tf.Variable(tf.random.stateless_normal([rows, WIDTH], (0, 1), stddev=spread))
    # A few items over and over: a draw of all would take more memory than the step.
    some = tf.random.stateless_normal([1000, WIDTH], (0, 2), stddev=spread)
    items = tf.Variable(tf.tile(some, [size // 1000, 1]))
    bias = tf.Variable(tf.zeros(size))
    labels = tf.constant(rng.integers(FIRST_ID, size, rows), tf.int32)
    weights = tf.fill([rows], 1.0 / rows)
    shares = tf.constant(rng.random(NEGATIVES), tf.float32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            if way == "exact":
                loss = chunked_next_item(states, items, bias, labels, weights)
            elif way == "sampled":
                drawn = zipf_quantiles(shares, size)
                loss = sampled_next_item(states, items, bias, labels, weights, *drawn)
            else:
                scores = tf.matmul(states, items, transpose_b=True) + bias
                loss = tf.reduce_sum(next_item(scores, labels) * weights)
        # Summed, so that nothing of the gradients' size stays with the caller.
        gradients = tape.gradient(loss, [states, items, bias])
        return loss, [tf.reduce_sum(tf.convert_to_tensor(g)) for g in gradients]

    before = peak_mebibytes()
    seconds = median_seconds(step, 1 if size >= 1_000_000 else 3)
    scored = NEGATIVES if way == "sampled" else size
    gflops = matmul_gflops()
    return {
        "seconds": seconds,
        "floor": 3 * 2e-9 * rows * scored * WIDTH / gflops,
        "gflops": gflops,
        "before": before,
        "mebibytes": peak_mebibytes(),
    }


if __name__ == "__main__":
    performance_table.main(measure, __doc__, one)

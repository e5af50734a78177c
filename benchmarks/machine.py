"""What the machine can do, and how a step is timed on it."""

import resource
import statistics
import time

import tensorflow as tf


def median_seconds(step, repeats=5, warmup=1):
    """Median seconds of `repeats` calls of `step`, after `warmup` ones; results are waited for."""
    for _ in range(warmup):
        _finish(step())
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        _finish(step())
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def matmul_gflops(n=1536, repeats=9, dtype="float32"):
    """The rate of TensorFlow's own matrix product of two [n, n], GFLOP/s."""
    a = tf.cast(tf.random.stateless_normal([n, n], seed=(0, 0)), dtype)
    product = tf.function(lambda: tf.matmul(a, a))
    return 2e-9 * n**3 / median_seconds(product, repeats, warmup=2)


def read_gigabytes(megabytes=256, repeats=7):
    """Sustained reading of memory by a matrix-vector product, GB/s."""
    rows = megabytes * 1_000_000 // (4 * 64)
    a = tf.random.stateless_uniform([rows, 64], seed=(0, 0))
    x = tf.ones([64, 1])
    product = tf.function(lambda: tf.matmul(a, x))
    return megabytes / 1e3 / median_seconds(product, repeats, warmup=2)


def peak_mebibytes():
    """Largest resident memory that this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _finish(value):
    for tensor in tf.nest.flatten(value):
        if tf.is_tensor(tensor):
            tensor.numpy()

"""Measures the machine: seconds of a step, rate of matrix products, memory reads, peak memory."""

import resource
import statistics
import time
from collections.abc import Callable

import tensorflow as tf


def median_seconds(step: Callable[[], object], repeats: int = 5, warmup: int = 1) -> float:
    """Returns the median seconds of a step.

    Args:
        step: a function; the tensors that it returns are awaited.
        repeats: number of measured calls.
        warmup: number of calls before them that are not measured.
    """
    for _ in range(warmup):
        _wait_for(step())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _wait_for(step())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def matmul_gflops(n: int = 1536, repeats: int = 9, dtype: str = "float32") -> float:
    """Returns the rate of TensorFlow's product of two [n, n] matrices in GFLOP/s."""
    a = tf.cast(tf.random.stateless_normal([n, n], seed=(0, 0)), dtype)
    product = tf.function(lambda: tf.matmul(a, a))
    return 2e-9 * n**3 / median_seconds(product, repeats, warmup=2)


def read_gigabytes(megabytes: int = 256, repeats: int = 7) -> float:
    """Returns the rate at which a matrix-vector product reads memory in GB/s."""
    rows = megabytes * 1_000_000 // (4 * 64)
    a = tf.random.stateless_uniform([rows, 64], seed=(0, 0))
    x = tf.ones([64, 1])
    product = tf.function(lambda: tf.matmul(a, x))
    return megabytes / 1e3 / median_seconds(product, repeats, warmup=2)


def gpu() -> str:
    """Returns the name of the first GPU; empty without one."""
    for device in tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(device).get("device_name", "GPU")
    return ""


def forget_peak() -> None:
    """Lets the next `device_peak` start from now, which a GPU's memory alone allows."""
    if gpu():
        tf.config.experimental.reset_memory_stats("GPU:0")


def device_peak() -> float:
    """Returns the peak memory in MiB of the GPU, or without one of this process."""
    if not gpu():
        return peak_mebibytes()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20


def peak_mebibytes() -> float:
    """Returns the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _wait_for(value: object) -> None:
    for tensor in tf.nest.flatten(value):
        if tf.is_tensor(tensor):
            tensor.numpy()

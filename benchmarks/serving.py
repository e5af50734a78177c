"""Measures serving: one request through the C API, and requests per second of the local server.

A request of one user is compared with its lower bound, the time of the user encoder plus one read
of the item table, and with a plain `tf.function` of the same signature. The local server is loaded
by `serving/load` until the 99th percentile of its latency exceeds 20 ms.

    python -m benchmarks.serving
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from benchmarks import performance_table, synthetic
from benchmarks.performance_table import Row
from serving import contract

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models import CMCLRec

_LARGEST = 1_000_000
_RATES = (50, 100, 200, 300, 400, 500, 600)
_P99_MS = 20.0
_FEW_THREADS = {
    "--grpc_max_threads": 2,
    "--tensorflow_intra_op_parallelism": 1,
    "--tensorflow_inter_op_parallelism": -1,
}


def measure(quick: bool) -> Iterator[Row]:
    """Yields rows of the C API by catalogue size, then rows of the server on the smallest size."""
    import keras

    sizes = (2000,) if quick else (5000, 100_000, _LARGEST)
    with tempfile.TemporaryDirectory() as folder:
        folders = {size: pathlib.Path(folder) / str(size) for size in sizes}
        for size in sizes:
            keras.backend.clear_session()
            version = folders[size] / "models" / "1"
            yield from _c_api(folders[size] / "prepared", version, size, quick)
        base = folders[sizes[0]] / "models"
        yield from _server(base, sizes[0], quick)
        yield _processor_time(base, "as it is", {}, quick)
        yield _processor_time(base, "with few threads", _FEW_THREADS, quick)


def exported(
    prepared: pathlib.Path, version: pathlib.Path, size: int
) -> tuple[CMCLRec, PreparedDataset]:
    """Exports an untrained model of the default settings over `size` items.

    Args:
        prepared: new folder for the dataset.
        version: new folder for the export.
        size: number of items.

    Returns:
        The model and its dataset.
    """
    from cmclrec_tf import Config
    from cmclrec_tf.models import CMCLRec
    from serving.export.saved_model import export

    dataset = synthetic.prepared(prepared, synthetic.every_item(size))
    model = CMCLRec(dataset.schema, Config())
    model(next(iter(dataset.batches("test", 1))))
    export(model, dataset, version)
    return model, dataset


def _c_api(prepared: pathlib.Path, version: pathlib.Path, size: int, quick: bool) -> Iterator[Row]:
    """Compares the C API, a `tf.function` and the lower bound on a new export."""
    import tensorflow as tf

    from benchmarks.machine import median_seconds, read_gigabytes
    from serving.c_api.session import SavedModelSession
    from serving.export import warmup
    from serving.export.signatures import Signatures

    model, dataset = exported(prepared, version, size)
    config, batch = model.config, next(iter(dataset.batches("test", 1)))
    endpoints = Signatures(model, dataset.vocabularies, config.serve).endpoints()
    encoders = {
        contract.WARM: tf.function(lambda: model.warm_states(batch["history"])),
        contract.COLD: tf.function(lambda: model.cold_states(batch["features"])),
    }
    repeats = 3 if quick else 31
    table_bytes = 4 * size * config.model.width
    read = table_bytes / (1e9 * read_gigabytes(max(8, table_bytes // 1_000_000)))
    with SavedModelSession(version) as session:
        for rows in (1, 32):
            requests = warmup.requests(dataset, rows)
            for name in encoders:
                inputs = requests[name]
                c_api = median_seconds(functools.partial(session.run, name, inputs), repeats, 3)
                function, spec = endpoints[name]
                plain = tf.function(function, input_signature=spec)
                tensors = {key: tf.constant(value) for key, value in inputs.items()}
                is_warm = name == contract.WARM
                arguments = [tensors["history"], tensors["exclude"]] if is_warm else [tensors]
                graph = median_seconds(functools.partial(plain, *arguments), repeats, 3)
                what = f"serving, {name}, {rows} users, V = {size:,}"
                detail = f"C API {1e3 * c_api:.2f} ms, tf.function {1e3 * graph:.2f} ms"
                if rows > 1:
                    yield Row(f"{what}: C API", 1e3 * c_api / rows, "ms a user", detail=detail)
                    continue
                floor = median_seconds(encoders[name], repeats, 3) + read
                yield Row(
                    f"{what}: C API against an encoder pass and a read of the table",
                    c_api / floor,
                    "x",
                    at_most=1.3 if size == _LARGEST else None,
                    detail=f"{detail}, floor {1e3 * floor:.2f} ms, {1e3 * read:.2f} of it to read "
                    f"{table_bytes / 1e6:.0f} MB",
                )


def _server(base: pathlib.Path, size: int, quick: bool) -> Iterator[Row]:
    """Finds the highest rate of one-user requests with a 99th percentile of at most 20 ms."""
    from serving.load import synthetic_requests
    from serving.load.measure import Plan, measure
    from serving.load.process import ServerProcess

    requests = synthetic_requests.RequestMaker.from_warmup(base, contract.MODEL_NAME)
    plan = Plan({1: (20,) if quick else _RATES}, seconds=1.0 if quick else 3.0)
    with ServerProcess(base) as server:
        steps = measure(server.target, requests, plan)
    for signature in requests.signatures:
        series = [step for step in steps if step.signature == signature]
        met = [step for step in series if step.meets(_P99_MS)] or series[:1]
        best = max(met, key=lambda step: step.result.achieved)
        yield Row(
            f"serving, local server, {signature}, one user a request: rate with p99 <= 20 ms",
            best.result.achieved if best.meets(_P99_MS) else 0.0,
            "requests/s",
            at_least=500,
            detail=f"p50 {best.result.p50:.1f} p99 {best.result.p99:.1f} ms, V = {size:,}; "
            "the generator shares the cores",
        )


def _processor_time(base: pathlib.Path, how: str, flags: Mapping[str, int], quick: bool) -> Row:
    """Measures the server's processor time per request at a moderate rate."""
    from serving.load import synthetic_requests
    from serving.load.measure import Plan, measure
    from serving.load.process import ServerProcess

    requests = synthetic_requests.RequestMaker.from_warmup(base, contract.MODEL_NAME)
    plan = Plan({1: (100,)}, seconds=1.0 if quick else 5.0)
    words = [str(word) for pair in flags.items() for word in pair]
    with ServerProcess(base, words) as server:
        before = server.processor_seconds
        steps = measure(server.target, requests, plan)
        after = server.processor_seconds
    answered = sum(step.result.answered for step in steps)
    times = [f"{s.signature} {s.result.p50:.1f} and {s.result.p99:.1f}" for s in steps]
    return Row(
        f"serving, local server {how}, 100 requests/s: processor time of one",
        None if before is None or after is None else 1e3 * (after - before) / answered,
        "ms",
        detail=f"{' '.join(words)}; p50 and p99 ms: {', '.join(times)}".lstrip("; "),
    )


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

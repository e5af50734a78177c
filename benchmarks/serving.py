"""Serving: one request through the C API against its floor, and requests/s of the local server.

python -m benchmarks.serving
"""

import pathlib
import tempfile

from benchmarks import performance_table, synthetic
from benchmarks.performance_table import Row

_LARGEST = 1_000_000
_RATES = (50, 100, 200, 300, 400, 500, 600)
_P99_MS = 20.0
_FEW_THREADS = {
    "--grpc_max_threads": 2,
    "--tensorflow_intra_op_parallelism": 1,
    "--tensorflow_inter_op_parallelism": -1,
}


def measure(quick):
    """Rows by catalogue size, then those of the server with the smallest."""
    import keras

    sizes = (2000,) if quick else (5000, 100_000, _LARGEST)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for size in sizes:
            keras.backend.clear_session()
            version = folder / str(size) / "models" / "1"
            yield from _in_process(folder / str(size) / "prepared", version, size, quick)
        base = folder / str(sizes[0]) / "models"
        yield from _server(base, sizes[0], quick)
        yield _processor_time(base, "as it is", {}, quick)
        yield _processor_time(base, "with few threads", _FEW_THREADS, quick)


def exported(prepared, version, size):
    """An untrained model of the default settings over `size` items, and its dataset.

    Args:
        prepared, version: new folders, for the dataset and for the export.
    """
    from cmclrec_tf import Config
    from cmclrec_tf.models import CMCLRec
    from serving.export.saved_model import export

    dataset = synthetic.prepared(prepared, synthetic.every_item(size))
    model = CMCLRec(dataset.schema, Config())
    model(next(iter(dataset.batches("test", 1))))
    export(model, dataset, version)
    return model, dataset


def _in_process(prepared, version, size, quick):
    """The C API and a plain `tf.function` on a new export."""
    import tensorflow as tf

    from benchmarks.machine import median_seconds, read_gigabytes
    from serving.c_api.session import SavedModelSession
    from serving.export import warmup
    from serving.export.signatures import Signatures

    model, dataset = exported(prepared, version, size)
    config, batch = model.config, next(iter(dataset.batches("test", 1)))
    endpoints = Signatures(model, dataset.vocabularies, config.serve).endpoints()
    encoders = {
        "warm": tf.function(lambda: model.warm_states(batch["history"])),
        "cold": tf.function(lambda: model.cold_states(batch["features"])),
    }
    repeats = 3 if quick else 31
    table_bytes = 4 * size * config.model.width
    read = table_bytes / (1e9 * read_gigabytes(max(8, table_bytes // 1_000_000)))
    with SavedModelSession(version) as session:
        for rows in (1, 32):
            asked = warmup.requests(dataset, rows)
            for name in ("warm", "cold"):
                inputs = asked[name]
                ours = median_seconds(lambda n=name, i=inputs: session.run(n, i), repeats, 3)
                function, spec = endpoints[name]
                plain = tf.function(function, input_signature=spec)
                tensors = {key: tf.constant(value) for key, value in inputs.items()}
                given = [tensors["history"], tensors["exclude"]] if name == "warm" else [tensors]
                graph = median_seconds(lambda f=plain, g=given: f(*g), repeats, 3)
                what = f"serving, {name}, {rows} users, V = {size:,}"
                detail = f"C API {1e3 * ours:.2f} ms, tf.function {1e3 * graph:.2f} ms"
                if rows > 1:
                    yield Row(f"{what}: C API", 1e3 * ours / rows, "ms a user", detail=detail)
                    continue
                floor = median_seconds(encoders[name], repeats, 3) + read
                yield Row(
                    f"{what}: C API against an encoder pass and a read of the table",
                    ours / floor,
                    "x",
                    at_most=1.3 if size == _LARGEST else None,
                    detail=f"{detail}, floor {1e3 * floor:.2f} ms, {1e3 * read:.2f} of it to read "
                    f"{table_bytes / 1e6:.0f} MB",
                )


def _server(base, size, quick):
    """The highest rate of single users that the local server answers in time."""
    from serving.load import made_up, measure

    requests = made_up.Requests.of_warmup(base, "cmclrec", 0)
    plan = measure.Plan({1: (20,) if quick else _RATES}, seconds=1.0 if quick else 3.0)
    steps = measure.batched_and_not(base, requests, plan)
    for signature in requests.signatures:
        own = [step for step in steps if step.signature == signature]
        met = [step for step in own if step.meets(_P99_MS)] or own[:1]
        best = max(met, key=lambda step: step.result.achieved)
        yield Row(
            f"serving, local server, {signature}, one user a request: rate with p99 <= 20 ms",
            best.result.achieved if best.meets(_P99_MS) else 0.0,
            "requests/s",
            at_least=500,
            detail=f"{'with' if best.batching else 'without'} batching, p50 {best.result.p50:.1f} "
            f"p99 {best.result.p99:.1f} ms, V = {size:,}; the generator shares the cores",
        )


def _processor_time(base, how, flags, quick):
    """What a request costs the server, and how long it takes, at a rate that is no trouble."""
    from serving.load import made_up, measure
    from serving.load.process import ServerProcess

    requests = made_up.Requests.of_warmup(base, "cmclrec", 0)
    plan = measure.Plan({1: (100,)}, seconds=1.0 if quick else 5.0)
    given = [word for pair in flags.items() for word in pair]
    with ServerProcess(base, given) as server:
        before = server.processor_seconds
        steps = measure.steps(server, requests, plan)
        spent = server.processor_seconds - before
    answered = sum(step.result.answered for step in steps)
    times = [f"{s.signature} {s.result.p50:.1f} and {s.result.p99:.1f}" for s in steps]
    return Row(
        f"serving, local server {how}, 100 requests/s: processor time of one",
        1e3 * spent / answered,
        "ms",
        detail=f"{' '.join(map(str, given))}; p50 and p99 ms: {', '.join(times)}".lstrip("; "),
    )


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

"""Shows how much time TensorFlow spends in each kind of operation.

python -m benchmarks.operations training         # one step of SASRec, as in training_speed.py
python -m benchmarks.operations kernels          # one step of `default` on a GPU, as in gpu.py
python -m benchmarks.operations warm [--items V] # one request of one user, by the C API

`cold` and `serving_default` can stand in the place of `warm`.
"""

import argparse
import pathlib
import re
import tempfile
from collections.abc import Iterator

from benchmarks import gpu, serving, synthetic, training_speed

_STEPS, _REQUESTS = 10, 100
_MAX_ROWS = 20
# Names of the libraries' matrix product kernels.
_PRODUCT = re.compile("gemm|cutlass|nvjet|xmma|wgmma")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        choices=("training", "kernels", "warm", "cold", "serving_default"),
        help="What to trace.",
    )
    parser.add_argument(
        "--items", type=int, default=synthetic.ITEMS, help="Number of items of a request's model."
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if arguments.what == "training":
            cell = gpu.Cell("SASRec", "float32", "never", batch=training_speed.BATCH)
            times = _trace_steps(folder, cell, _STEPS * cell.batch)
        elif arguments.what == "kernels":
            _check_gpu()
            cell = gpu.Cell("default")
            times = _trace_steps(folder, cell, 2 * cell.batch)
        else:
            times = _trace_requests(folder, arguments.what, arguments.items)
        totals = (_by_kernel if arguments.what == "kernels" else by_kind)(folder / "trace")
    print("| operation | ms each time | runs each time |")
    print("|---|---|---|")
    rows = sorted(((kind, *total) for kind, total in totals.items()), key=lambda row: -row[1])
    everything = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    for kind, milliseconds, runs in [everything, *rows[:_MAX_ROWS]]:
        print(f"| {kind} | {milliseconds / times:.3f} | {runs / times:.0f} |")
    if arguments.what == "kernels":
        products = sum(row[1] for row in rows if _PRODUCT.search(row[0].lower()))
        print(f"Matrix products: {products / everything[1]:.0%} of the kernels' time.")


def _check_gpu() -> None:
    from benchmarks import machine

    if not machine.gpu():
        raise SystemExit("error: kernels run on a GPU, and TensorFlow finds none here.")


def _trace_steps(folder: pathlib.Path, cell: gpu.Cell, users: int) -> int:
    """Traces steps of training on full histories and returns their number."""
    import tensorflow as tf

    dataset = synthetic.prepared(folder / "prepared", synthetic.histories(users))
    model = cell.compiled(dataset)
    training_speed.fit(model, dataset, 1)  # builds the graph
    with tf.profiler.experimental.Profile(str(folder / "trace")):
        training_speed.fit(model, dataset, 1, steps=_STEPS)
    return _STEPS


def _trace_requests(folder: pathlib.Path, signature: str, items: int) -> int:
    """Traces requests of one user and returns their number."""
    import tensorflow as tf

    from serving.c_api.session import SavedModelSession
    from serving.export import warmup

    _, dataset = serving.exported(folder / "prepared", folder / "1", items)
    inputs = warmup.requests(dataset, 1)[signature]
    with SavedModelSession(folder / "1") as session:
        session.run(signature, inputs)
        with tf.profiler.experimental.Profile(str(folder / "trace")):
            for _ in range(_REQUESTS):
                session.run(signature, inputs)
    return _REQUESTS


def by_kind(folder: pathlib.Path) -> dict[str, tuple[float, int]]:
    """Returns `{kind of operation: (milliseconds, runs)}` of a trace, summed over the threads."""
    totals: dict[str, tuple[float, int]] = {}
    for name, milliseconds in _events(folder, "", ""):
        operation, colon, kind = name.rpartition(":")
        # An event is named `operation:kind`. Functions of TensorFlow, which contain operations,
        # have C++ names such as `a::b` and are left out.
        if colon and kind.isidentifier() and not operation.endswith(":"):
            _add(totals, kind, milliseconds)
    return totals


def _by_kernel(folder: pathlib.Path) -> dict[str, tuple[float, int]]:
    """Returns `{kernel: (milliseconds, runs)}` of a trace, summed over the GPU's streams."""
    totals: dict[str, tuple[float, int]] = {}
    for name, milliseconds in _events(folder, "/device:GPU", "Stream"):
        _add(totals, name, milliseconds)
    return totals


def _add(totals: dict[str, tuple[float, int]], name: str, milliseconds: float) -> None:
    before, runs = totals.get(name, (0.0, 0))
    totals[name] = before + milliseconds, runs + 1


def _events(folder: pathlib.Path, device: str, line: str) -> Iterator[tuple[str, float]]:
    """Yields name and milliseconds of the events of a trace, by the start of device and line."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = folder.rglob("*.xplane.pb")
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        for events in plane.lines if plane.name.startswith(device) else ():
            for event in events.events if events.name.startswith(line) else ():
                name = plane.event_metadata[event.metadata_id].name
                yield name, event.duration_ps / 1e9


if __name__ == "__main__":
    main()

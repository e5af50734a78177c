"""Shows how much time TensorFlow spends in each kind of operation.

python -m benchmarks.operations training         # one step of SASRec, as in training_speed.py
python -m benchmarks.operations warm [--items V] # one request of one user, by the C API

`cold` and `serving_default` can stand in the place of `warm`.
"""

import argparse
import collections
import pathlib
import tempfile

from benchmarks import serving, synthetic, training_speed

_USERS, _REQUESTS = 1280, 100
_MAX_ROWS = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=("training", "warm", "cold", "serving_default"), help="What to trace."
    )
    parser.add_argument(
        "--items", type=int, default=synthetic.ITEMS, help="Number of items of a request's model."
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if arguments.what == "training":
            times = _trace_steps(folder)
        else:
            times = _trace_requests(folder, arguments.what, arguments.items)
        totals = by_kind(folder / "trace")
    print("| operation | ms each time | runs each time |")
    print("|---|---|---|")
    rows = sorted(((kind, *total) for kind, total in totals.items()), key=lambda row: -row[1])
    everything = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    for kind, milliseconds, runs in [everything, *rows[:_MAX_ROWS]]:
        print(f"| {kind} | {milliseconds / times:.3f} | {runs / times:.0f} |")


def _trace_steps(folder: pathlib.Path) -> int:
    """Traces one epoch of training and returns its number of steps."""
    import tensorflow as tf

    from cmclrec_tf.models import PlainRecommender
    from cmclrec_tf.training import averaged_adam

    dataset = synthetic.prepared(folder / "prepared", synthetic.histories(_USERS))
    model = training_speed.compiled(PlainRecommender, averaged_adam, dataset, training_speed.ALONE)
    training_speed.fit(model, dataset, 1)  # traces the graph
    with tf.profiler.experimental.Profile(str(folder / "trace")):
        training_speed.fit(model, dataset, 1)
    return dataset.steps("train", training_speed.BATCH)


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
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    milliseconds: collections.defaultdict[str, float] = collections.defaultdict(float)
    runs: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            operation, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            # An event is named `operation:kind`. Functions of TensorFlow, which contain operations,
            # have C++ names such as `a::b` and are left out.
            if colon and kind.isidentifier() and not operation.endswith(":"):
                milliseconds[kind] += event.duration_ps / 1e9
                runs[kind] += 1
    return {kind: (milliseconds[kind], count) for kind, count in runs.items()}


if __name__ == "__main__":
    main()

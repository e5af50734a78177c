"""Where the time goes, by kind of TensorFlow's operations.

python -m benchmarks.operations training            # a step of SASRec alone, as in `training`
python -m benchmarks.operations warm [--items V]    # a request of one user, by the C API; or cold
"""

import argparse
import collections
import pathlib
import tempfile

from benchmarks import serving, synthetic, training_speed

_USERS, _REQUESTS = 1280, 100
_SHOWN = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("training", "warm", "cold"))
    parser.add_argument("--items", type=int, default=synthetic.ITEMS, help="V of a request")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if given.what == "training":
            times = _steps(folder)
        else:
            times = _requests(folder, given.what, given.items)
        spent = _by_kind(folder / "trace")
    print("| operation | ms each time | runs each time |")
    print("|---|---|---|")
    rows = sorted(((kind, *found) for kind, found in spent.items()), key=lambda row: -row[1])
    whole = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    for kind, milliseconds, runs in [whole, *rows[:_SHOWN]]:
        print(f"| {kind} | {milliseconds / times:.3f} | {runs / times:.0f} |")


def _steps(folder):
    """Traces steps of training; their number."""
    import tensorflow as tf

    from cmclrec_tf.models import PlainRecommender
    from cmclrec_tf.training import averaged_adam

    dataset = synthetic.prepared(folder / "prepared", synthetic.histories(_USERS))
    model = training_speed.compiled(PlainRecommender, averaged_adam, dataset, training_speed.ALONE)
    training_speed.fit(model, dataset, 1)  # makes the graph
    with tf.profiler.experimental.Profile(str(folder / "trace")):
        training_speed.fit(model, dataset, 1)
    return dataset.steps("train", training_speed.BATCH)


def _requests(folder, signature, items):
    """Traces requests of one user; their number."""
    import tensorflow as tf

    from serving.c_api.session import SavedModelSession
    from serving.export import warmup

    _, dataset = serving.exported(folder / "prepared", folder / "1", items)
    asked = warmup.requests(dataset, 1)[signature]
    with SavedModelSession(folder / "1") as session:
        session.run(signature, asked)
        with tf.profiler.experimental.Profile(str(folder / "trace")):
            for _ in range(_REQUESTS):
                session.run(signature, asked)
    return _REQUESTS


def _by_kind(folder):
    """{kind of operation: (milliseconds, runs)} of a trace, summed over the threads."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found = collections.defaultdict(lambda: [0.0, 0])
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            operation, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            # TensorFlow's own functions, which hold operations, are named as in C++.
            if colon and kind.isidentifier() and not operation.endswith(":"):
                found[kind][0] += event.duration_ps / 1e9
                found[kind][1] += 1
    return found


if __name__ == "__main__":
    main()

"""Where a step of SASRec alone, as `training` has it, spends its time, by kind of operation.

python -m benchmarks.step_profile
"""

import collections
import pathlib
import tempfile

from benchmarks import data, training

_USERS = 1280
_SHOWN = 20


def main():
    from cmclrec_tf.models import PlainRecommender
    from cmclrec_tf.training import averaged_adam

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        dataset = data.prepared(folder / "prepared", data.histories(_USERS))
        model = training.compiled(PlainRecommender, averaged_adam, dataset, training.ALONE)
        training.fit(model, dataset, 2, _profile(folder / "profile"))
        spent = _by_kind(folder / "profile")
    steps = dataset.steps("train", training.BATCH)
    print("| operation | ms a step | runs a step |")
    print("|---|---|---|")
    print(f"| all | {sum(t for t, _ in spent.values()) / steps:.1f} | |")
    for kind, (milliseconds, runs) in sorted(spent.items(), key=lambda one: -one[1][0])[:_SHOWN]:
        print(f"| {kind} | {milliseconds / steps:.1f} | {runs / steps:.0f} |")


def _profile(folder):
    """A callback that traces the second epoch; the first one makes the graph."""
    import keras
    import tensorflow as tf

    class Profile(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                tf.profiler.experimental.start(str(folder))

        def on_epoch_end(self, epoch, logs=None):
            if epoch:
                tf.profiler.experimental.stop()

    return Profile()


def _by_kind(folder):
    """{kind of operation: (milliseconds, runs)} of a trace, summed over the threads."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found = collections.defaultdict(lambda: [0.0, 0])
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                operation, colon, kind = name.rpartition(":")
                # TensorFlow's own functions hold operations and are named as C++ names them.
                if colon and kind.isidentifier() and not operation.endswith(":"):
                    found[kind][0] += event.duration_ps / 1e9
                    found[kind][1] += 1
    return found


if __name__ == "__main__":
    main()

"""From a raw log to user records: rows/s beside a naive Beam transform and pandas.

python -m benchmarks.beam
"""

import pathlib
import tempfile
import time

from benchmarks import table
from benchmarks.table import Row

# The size of KuaiRec: 4.7 million watched videos of 7,176 users.
ROWS, USERS, ITEMS, HISTORY = 4_700_000, 7176, 10_700, 50
_KEPT = "1"


def measure(quick):
    """Rows for the whole log, its quarters, and the others beside ours on a part."""
    whole = ROWS // (400 if quick else 1)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [whole // 16, whole // 4, whole]
        ours = {size: _measured("ours", folder, size) for size in sizes}
        naive = _measured("naive", folder, whole)
        pandas = _measured("pandas", folder, whole)
    _, quarter, largest = (ours[size] for size in sizes)
    rate = lambda size, one: f"{size / one['seconds']:,.0f} rows/s"
    yield Row(
        f"Beam, {whole:,} rows to user records",
        largest["seconds"],
        "s",
        at_most=90,
        detail=rate(whole, largest),
    )
    yield Row(
        f"Beam, {whole:,} rows: rows/s against a naive transform of rows",
        naive["seconds"] / largest["seconds"],
        "x",
        at_least=10,
        detail=f"{rate(whole, largest)}, naive {rate(whole, naive)}",
    )
    yield Row(
        f"Beam, {whole:,} rows: rows/s against pandas on one machine",
        pandas["seconds"] / largest["seconds"],
        "x",
        detail=f"pandas {rate(whole, pandas)}",
    )
    yield Row(
        "Beam, time of four times the rows",
        largest["seconds"] / quarter["seconds"],
        "x",
        at_most=4.8,
        detail=f"{sizes[1]:,} in {quarter['seconds']:.0f} s, {whole:,} {largest['seconds']:.0f} s",
    )
    for size in sizes:
        peak = ours[size]["mebibytes"]
        yield Row(f"Beam, {size:,} rows: peak memory", peak, "MiB", at_most=2048)


def write_log(folder, rows):
    """The two tables, in the order of time as a log is."""
    import numpy as np

    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(0, USERS, rows),
        "item": (ITEMS * rng.random(rows) ** 2).astype(int),
        "time": 1_600_000_000 + np.sort(rng.integers(0, 10_000_000, rows)),
        "liked": rng.integers(0, 2, rows),
    }
    with open(folder / "log.csv", "w") as file:
        file.write(",".join(columns) + "\n")
        for first in range(0, rows, 100_000):
            part = np.stack([column[first : first + 100_000] for column in columns.values()], 1)
            file.write("\n".join(",".join(map(str, row)) for row in part.tolist()) + "\n")
    lines = [f"{user},{user % 7},{user % 50}" for user in range(USERS)]
    (folder / "users.csv").write_text("\n".join(["user,group,age", *lines, ""]))


def _measured(way, folder, rows):
    folder = pathlib.Path(folder) / str(rows)
    if not folder.exists():
        folder.mkdir()
        write_log(folder, rows)
    return table.in_a_process("beam", way, folder)


def one(way, folder):
    """One way in this process: {seconds, mebibytes: peak}; imports are not counted."""
    from benchmarks.machine import peak_mebibytes

    run = {"ours": _ours, "naive": _naive, "pandas": _pandas}[way](pathlib.Path(folder))
    began = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - began, "mebibytes": peak_mebibytes()}


def _ours(folder):
    import apache_beam as beam

    from cmclrec_tf.config import DataConfig
    from pipeline.datasets.spec import DatasetSpec
    from pipeline.runners.local import BEAM_ARGS
    from pipeline.transforms.example import to_example
    from pipeline.transforms.guard import Guarded
    from pipeline.transforms.user_records import UserRecords

    features = [{"name": "group"}, {"name": "age", "kind": "numeric"}]
    log = {"file": "log.csv", "user": "user", "item": "item", "time": "time"}
    keep = {"column": "liked", "one_of": [_KEPT]}
    spec = DatasetSpec.from_dict(
        {
            "name": "log",
            "interactions": {**log, "delimiter": ",", "keep": keep},
            "users": {"file": "users.csv", "delimiter": ",", "id": "user", "features": features},
        }
    )
    data = DataConfig(max_history=HISTORY)

    def run():
        with beam.Pipeline(argv=list(BEAM_ARGS)) as pipeline:
            records = pipeline | UserRecords(spec, folder, data) | Guarded(data)
            for split, found in records.items():
                encoded = found | f"Encode[{split}]" >> beam.Map(to_example, spec.features)
                _written(encoded, folder, split)

    return run


def _naive(folder):
    """What a first version does: every row a tuple, every user a group."""
    import apache_beam as beam

    from pipeline.runners.local import BEAM_ARGS

    def event(line):
        user, item, moment, liked = line.split(",")
        return [(user, (int(moment), item))] if liked == _KEPT else []

    def profile(line):
        user, group, age = line.split(",")
        return user, (group, float(age))

    def record(user, found):
        events = sorted(found["events"])
        if events and found["users"]:
            items = [item.encode() for _, item in events]
            yield _example(user, items, *next(iter(found["users"])))

    def run():
        with beam.Pipeline(argv=list(BEAM_ARGS)) as pipeline:
            read = lambda name: beam.io.ReadFromText(str(folder / name), skip_header_lines=1)
            tables = {
                "events": pipeline | "Log" >> read("log.csv") | "Events" >> beam.FlatMap(event),
                "users": pipeline | "Users" >> read("users.csv") | "Profiles" >> beam.Map(profile),
            }
            joined = tables | beam.CoGroupByKey() | beam.FlatMapTuple(record)
            _written(joined, folder, "all")

    return run


def _pandas(folder):
    """What fits into one machine's memory."""
    import pandas as pd
    import tensorflow as tf

    def run():
        log = pd.read_csv(folder / "log.csv", dtype={"user": str, "item": str, "liked": str})
        log = log[log["liked"] == _KEPT].sort_values("time", kind="stable")
        users = pd.read_csv(folder / "users.csv", dtype={"user": str, "group": str})
        profiles = users.set_index("user")
        with tf.io.TFRecordWriter(str(folder / "pandas.gz"), "GZIP") as writer:
            newest = log.groupby("user").tail(HISTORY + 1)
            for user, items in newest.groupby("user")["item"]:
                group, age = profiles.loc[user]
                writer.write(_example(user, [item.encode() for item in items], group, age))

    return run


def _example(user, items, group, age):
    import tensorflow as tf

    text = lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    fields = {
        "user_id": text([user.encode()]),
        "history": text(items[-HISTORY - 1 : -1]),
        "target": text(items[-1:]),
        "group": text([group.encode()]),
        "age": tf.train.Feature(float_list=tf.train.FloatList(value=[age])),
    }
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


def _written(encoded, folder, name):
    import apache_beam as beam

    path = str(folder / "out" / name)
    _ = encoded | f"Write[{name}]" >> beam.io.WriteToTFRecord(
        path, file_name_suffix=".gz", num_shards=1
    )


if __name__ == "__main__":
    table.main(measure, __doc__, one)

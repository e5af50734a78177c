"""From a raw log to user records: rows/s beside a naive Beam transform and pandas.

python -m benchmarks.beam
"""

import itertools
import pathlib
import tempfile
import time

from benchmarks import performance_table
from benchmarks.performance_table import Row

# The size of KuaiRec: 4.7 million watched videos of 7,176 users.
ROWS, USERS, ITEMS, HISTORY = 4_700_000, 7176, 10_700, 50
_TIMES = (1, 4, 16)
_KEPT = "1"
_OTHERS = {"naive": "a naive transform of rows", "pandas": "pandas on one machine"}


def measure(quick):
    """Rows for a log of KuaiRec's size and for longer ones, and the others beside ours."""
    once = ROWS // (400 if quick else 1)
    sizes = [once * times for times in _TIMES]
    compared = sizes[:2]  # the others would need all of a machine's memory for the longest
    with tempfile.TemporaryDirectory() as folder:
        ours = {size: _measured("ours", folder, size) for size in sizes}
        others = {
            way: {size: _measured(way, folder, size) for size in compared}
            for way in ("naive", "pandas")
        }
    for size, one in ours.items():
        yield Row(
            f"Beam, {size:,} rows to user records",
            one["seconds"],
            "s",
            at_most=90 if size == once else None,
            detail=_detail(size, one),
        )
        yield Row(f"Beam, {size:,} rows: peak memory", one["mebibytes"], "MiB", at_most=2048)
    for way, figures in others.items():
        for size, one in figures.items():
            yield Row(
                f"Beam, {size:,} rows: rows/s against {_OTHERS[way]}",
                one["seconds"] / ours[size]["seconds"],
                "x",
                at_least=10 if way == "naive" else None,
                detail=f"{way} {_detail(size, one)}",
            )
    for fewer, more in itertools.pairwise(sizes):
        yield Row(
            f"Beam, time of {more:,} rows against {fewer:,}",
            ours[more]["seconds"] / ours[fewer]["seconds"],
            "x",
            at_most=4.8,
        )


def _detail(size, one):
    return f"{size / one['seconds']:,.0f} rows/s, {one['mebibytes']:,.0f} MiB"


def write_log(folder, rows, part=1_000_000) -> None:
    """The two tables, in the order of time as a log is."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    rng = np.random.default_rng(0)
    options = pa.csv.WriteOptions(include_header=False)
    with open(folder / "log.csv", "wb") as file:
        file.write(b"user,item,time,liked\n")
        for start in range(0, rows, part):
            row = np.arange(start, min(start + part, rows))
            size = len(row)
            columns = {
                "user": rng.integers(0, USERS, size),
                "item": (ITEMS * rng.random(size) ** 2).astype(int),
                "time": 1_600_000_000 + row * 10_000_000 // rows,
                "liked": rng.integers(0, 2, size),
            }
            pa.csv.write_csv(pa.table(columns), file, options)
    lines = [f"{user},{user % 7},{user % 50}" for user in range(USERS)]
    (folder / "users.csv").write_text("\n".join(["user,group,age", *lines, ""]))


def _measured(way, folder, rows):
    folder = pathlib.Path(folder) / str(rows)
    if not folder.exists():
        folder.mkdir()
        write_log(folder, rows)
    return performance_table.in_a_process("beam", way, folder)


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
    from pipeline.transforms.check_records import CheckRecords
    from pipeline.transforms.encode import to_example
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
            records = pipeline | UserRecords(spec, folder, data) | "Guarded" >> CheckRecords(data)
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
    performance_table.main(measure, __doc__, one)

"""Measures the transform of a raw log into user records, against a naive Beam job and pandas.

Three logs have as many rows as KuaiRec, and 4 and 16 times as many, of the same users and items.
The naive job and pandas are not run on the largest one, which would need more memory than the
machine has.

    python -m benchmarks.beam
"""

from __future__ import annotations

import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import performance_table
from benchmarks.performance_table import Row

# The size of KuaiRec: 4.7 million watched videos of 7,176 users.
ROWS, USERS, ITEMS, HISTORY = 4_700_000, 7176, 10_700, 50
_TIMES = (1, 4, 16)
_LIKED = "1"
_PEERS = {"naive": "a naive transform of rows", "pandas": "pandas on one machine"}


def measure(quick: bool) -> Iterator[Row]:
    """Yields rows of this project's transform by log size, and its ratios to the peers."""
    once = ROWS // (400 if quick else 1)
    sizes = [once * times for times in _TIMES]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ours = {size: _run_in_process("ours", folder, size) for size in sizes}
        peers = {
            peer: {size: _run_in_process(peer, folder, size) for size in sizes[:2]}
            for peer in _PEERS
        }
    for size, figures in ours.items():
        yield Row(
            f"Beam, {size:,} rows to user records",
            figures["seconds"],
            "s",
            at_most=90 if size == once else None,
            detail=_detail(size, figures),
        )
        yield Row(f"Beam, {size:,} rows: peak memory", figures["mebibytes"], "MiB", at_most=2048)
    for peer, by_size in peers.items():
        for size, figures in by_size.items():
            yield Row(
                f"Beam, {size:,} rows: rows/s against {_PEERS[peer]}",
                figures["seconds"] / ours[size]["seconds"],
                "x",
                at_least=10 if peer == "naive" else None,
                detail=f"{peer} {_detail(size, figures)}",
            )
    for fewer, more in itertools.pairwise(sizes):
        yield Row(
            f"Beam, time of {more:,} rows against {fewer:,}",
            ours[more]["seconds"] / ours[fewer]["seconds"],
            "x",
            at_most=4.8,
        )


def _detail(size: int, figures: dict[str, float]) -> str:
    return f"{size / figures['seconds']:,.0f} rows/s, {figures['mebibytes']:,.0f} MiB"


def write_log(folder: pathlib.Path, rows: int, part: int = 1_000_000) -> None:
    """Writes the log, ordered by time, and the table of users.

    Args:
        folder: folder for `log.csv` and `users.csv`.
        rows: rows of the log.
        part: rows that are made at a time.
    """
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


def _run_in_process(method: str, folder: pathlib.Path, rows: int) -> dict[str, float]:
    logs = folder / str(rows)
    if not logs.exists():
        logs.mkdir()
        write_log(logs, rows)
    return performance_table.run_in_process("beam", method, logs)


def measure_one(method: str, folder: str) -> dict[str, float]:
    """Runs one method in this process; imports are not part of the time.

    Args:
        method: "ours", "naive" or "pandas".
        folder: folder of the log.

    Returns:
        `seconds`, and `mebibytes` of peak memory.
    """
    from benchmarks.machine import peak_mebibytes

    run = {"ours": _ours, "naive": _naive, "pandas": _pandas}[method](pathlib.Path(folder))
    start = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - start, "mebibytes": peak_mebibytes()}


def _ours(folder: pathlib.Path) -> Callable[[], None]:
    """Returns this project's transform."""
    import apache_beam as beam

    from cmclrec_tf.config import DataConfig
    from pipeline.datasets.spec import DatasetSpec
    from pipeline.runners.local import BEAM_ARGS
    from pipeline.transforms.check_records import CheckRecords
    from pipeline.transforms.encode import to_example
    from pipeline.transforms.user_records import UserRecords

    features = [{"name": "group"}, {"name": "age", "kind": "numeric"}]
    log = {"file": "log.csv", "user": "user", "item": "item", "time": "time"}
    keep = {"column": "liked", "one_of": [_LIKED]}
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
            for split, users in records.items():
                examples = users | f"Encode[{split}]" >> beam.Map(to_example, spec.features)
                _write(examples, folder, split)

    return run


def _naive(folder: pathlib.Path) -> Callable[[], None]:
    """Returns a simple Beam job: every row is a tuple, every user a group."""
    import apache_beam as beam

    from pipeline.runners.local import BEAM_ARGS

    def event(line):
        user, item, moment, liked = line.split(",")
        return [(user, (int(moment), item))] if liked == _LIKED else []

    def profile(line):
        user, group, age = line.split(",")
        return user, (group, float(age))

    def record(user, groups):
        events = sorted(groups["events"])
        if events and groups["users"]:
            items = [item.encode() for _, item in events]
            yield _example(user, items, *next(iter(groups["users"])))

    def run():
        with beam.Pipeline(argv=list(BEAM_ARGS)) as pipeline:
            read = lambda name: beam.io.ReadFromText(str(folder / name), skip_header_lines=1)
            tables = {
                "events": pipeline | "Log" >> read("log.csv") | "Events" >> beam.FlatMap(event),
                "users": pipeline | "Users" >> read("users.csv") | "Profiles" >> beam.Map(profile),
            }
            joined = tables | beam.CoGroupByKey() | beam.FlatMapTuple(record)
            _write(joined, folder, "all")

    return run


def _pandas(folder: pathlib.Path) -> Callable[[], None]:
    """Returns a pandas program, which holds all rows in memory."""
    import pandas as pd
    import tensorflow as tf

    def run():
        log = pd.read_csv(folder / "log.csv", dtype={"user": str, "item": str, "liked": str})
        log = log[log["liked"] == _LIKED].sort_values("time", kind="stable")
        users = pd.read_csv(folder / "users.csv", dtype={"user": str, "group": str})
        profiles = users.set_index("user")
        with tf.io.TFRecordWriter(str(folder / "pandas.gz"), "GZIP") as writer:
            newest = log.groupby("user").tail(HISTORY + 1)
            for user, items in newest.groupby("user")["item"]:
                group, age = profiles.loc[user]
                writer.write(_example(user, [item.encode() for item in items], group, age))

    return run


def _example(user: str, items: list[bytes], group: str, age: float) -> bytes:
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


def _write(examples: Any, folder: pathlib.Path, name: str) -> None:
    import apache_beam as beam

    path = str(folder / "out" / name)
    _ = examples | f"Write[{name}]" >> beam.io.WriteToTFRecord(
        path, file_name_suffix=".gz", num_shards=1
    )


if __name__ == "__main__":
    performance_table.main(measure, __doc__, measure_one)

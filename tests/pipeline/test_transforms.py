"""User records from raw tables: twelve rows with typed-out records, and random logs."""

import dataclasses
import random

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature
from pipeline.datasets import load_spec
from pipeline.datasets.text_rows import RowShape
from pipeline.storage.text_files import row_number
from pipeline.transforms import counters
from pipeline.transforms.encode import to_example
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_rows import ReadRows
from pipeline.transforms.split import assign_split
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.toy_datasets import TWELVE, TWELVE_SALT, write_clusters, write_twelve

DATA = DataConfig(max_history=2, min_events=2, salt=TWELVE_SALT)

ANN = {
    "user_id": [b"ann"],
    "segment": [b"warm"],
    # i2 and i4 have equal times and keep the order of the file; i1 is cut by max_history.
    "history": [b"i2", b"i4"],
    "history_time": [20, 20],
    "target": [b"i3"],
    "target_time": [30],
    "age": [23.5],
    "job": [b"nurse"],
    "tags": [b"b"],
}
FAY = {
    "user_id": [b"fay"],
    "segment": [b"warm"],
    "history": [b"i2"],
    "history_time": [5],
    "target": [b"i1"],
    "target_time": [6],
    "age": [],
    "job": [b"clerk"],
    "tags": [],
}
CAT = {
    "user_id": [b"cat"],
    "segment": [b"warm"],
    "history": [b"i4"],
    "history_time": [7],
    "target": [b"i1"],
    "target_time": [8],
    "age": [],
    "job": [],
    "tags": [],
}
BOB = {
    "user_id": [b"bob"],
    "segment": [b"cold"],
    "history": [],
    "history_time": [],
    "target": [b"i5"],
    "target_time": [12],
    "age": [41.0],
    "job": [b"cook, head"],
    "tags": [b"a", b"b"],
}


def _pipeline():
    # The default runner would first look for another runner on the network.
    return beam.Pipeline(argv=["--runner=FnApiRunner"])


def _records(spec_path, data=DATA, span=1 << 20):
    """Returns `{split: records as sorted text}` and the counters."""
    paths = {}
    with _pipeline() as pipeline:
        spec = load_spec(spec_path)
        for split, records in (pipeline | UserRecords(spec, spec_path.parent, data, span)).items():
            path = spec_path.parent / f"{split}.txt"
            lines = records | f"Line[{split}]" >> beam.Map(repr)
            _ = lines | f"Write[{split}]" >> beam.io.WriteToText(str(path), shard_name_template="")
            paths[split] = path
    lines = {split: sorted(path.read_text().splitlines()) for split, path in paths.items()}
    return lines, counters.read(pipeline.result)


@pytest.mark.parametrize("span", [1, 17, 1 << 20])
def test_twelve_rows(tmp_path, span):
    spec_path = write_twelve(tmp_path)
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(spec_path), tmp_path, DATA, span)
        assert_that(splits["train"], equal_to([ANN]), label="train")
        assert_that(splits["val"], equal_to([FAY]), label="val")
        assert_that(splits["test"], equal_to([CAT, BOB]), label="test")
    assert counters.read(pipeline.result) == {
        "events": 12,
        "users_train_warm": 1,
        "users_val_warm": 1,
        "users_test_warm": 1,
        "users_test_cold": 1,
        "users_with_few_events": 1,
        "users_without_events": 1,
        "users_without_features": 1,
        "valued_age": 1,
        "valued_job": 1,
        "valued_tags": 1,
    }


def test_target_all_holds_every_removed_item_with_the_last_one_last(tmp_path):
    spec_path = write_twelve(tmp_path)
    with open(tmp_path / "log.inter", "a") as file:
        file.write("bob\ti1\t1\t99\n")
    data = dataclasses.replace(DATA, target="all")
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(spec_path), tmp_path, data)
        bob = {**BOB, "target": [b"b9", b"i5", b"i1"], "target_time": [12, 12, 99]}
        assert_that(splits["test"], equal_to([CAT, bob]), label="test")
        assert_that(splits["train"], equal_to([ANN]), label="train")


def test_records_do_not_depend_on_sharding(tmp_path):
    spec_path = write_clusters(tmp_path, n_users=60)
    whole, _ = _records(spec_path)
    assert sum(len(lines) for lines in whole.values()) == 60
    for span in (31, 1000, 5003):
        assert _records(spec_path, span=span)[0] == whole


def test_records_against_a_plain_loop(tmp_path):
    """The plain loop sorts the whole log of each user in memory, without Beam."""
    spec_path = write_clusters(tmp_path, n_users=80, seed=3)
    data = DataConfig(max_history=5, min_events=8, salt="s")
    rows = (tmp_path / "interactions.csv").read_text().splitlines()[1:]
    logs = {}
    for number, row in enumerate(rows):
        user, item, time = row.split(",")
        logs.setdefault(user, []).append((int(time), number, item.encode()))
    expected = {"train": {}, "val": {}, "test": {}}
    for user, log in logs.items():
        if len(log) >= 8:
            split, segment = assign_split(user.encode(), data)
            items = [item for _, _, item in sorted(log)]
            history = [] if segment == "cold" else items[:-1][-5:]
            expected[split][user] = (segment.encode(), history, items[-1])
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(spec_path), tmp_path, data, span=777)
        for split, records in splits.items():
            summaries = records | f"Summary[{split}]" >> beam.Map(
                lambda r: (
                    r["user_id"][0].decode(),
                    (r["segment"][0], r["history"], r["target"][0]),
                )
            )
            assert_that(summaries, equal_to(list(expected[split].items())), label=split)
    assert 0 < sum(map(len, expected.values())) < 80


def test_a_planted_leak_stays_out_of_train(tmp_path):
    """Every user has an item of their own; those of cold users are in no other record."""
    spec_path = write_clusters(tmp_path, n_users=120)
    with open(tmp_path / "interactions.csv", "a") as file:
        for user in range(120):
            file.writelines(f"u{user},secret-u{user}-,{time}\n" for time in (5000, 5001))
    splits, counts = _records(spec_path)
    cold = [f"u{n}" for n in range(120) if assign_split(f"u{n}".encode(), DATA) == ("test", "cold")]
    assert len(cold) == counts["users_test_cold"] > 5
    for split in ("train", "val"):
        text = "\n".join(splits[split])
        assert "secret-" in text
        assert not [user for user in cold if f"secret-{user}-" in text]
    for line in splits["test"]:
        assert "b'cold'" not in line or ("'history': []" in line and "'history_time': []" in line)


@pytest.mark.parametrize("seed", range(5))
def test_newest_events_do_not_depend_on_order_or_merging(seed):
    rng = random.Random(seed)
    events = [(rng.randrange(6), offset, b"i%d" % rng.randrange(9)) for offset in range(40)]
    newest = [(time, item) for time, _, item in sorted(events)[-6:]]
    rng.shuffle(events)
    combine = NewestEvents(7)
    accumulators = [combine.create_accumulator() for _ in range(5)]
    for event in events:
        at = rng.randrange(5)
        accumulators[at] = combine.add_input(accumulators[at], event)
        assert len(accumulators[at][1]) <= 7
    merged = combine.merge_accumulators(accumulators[:3])
    merged = combine.add_input(merged, (9, 99, b"new"))
    merged = combine.merge_accumulators([merged, *accumulators[3:]])
    assert combine.extract_output(merged) == (41, [*newest, (9, b"new")])


@pytest.mark.parametrize("span", [1, 2, 7, 100])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n"])
def test_rows_and_their_offsets(tmp_path, span, end):
    text = b"header\nfirst\n\n3rd\r\nl\xc3\xa4st" + end
    (tmp_path / "odd [1].txt").write_bytes(text)
    with _pipeline() as pipeline:
        rows = pipeline | ReadRows([(tmp_path / "odd [1].txt", RowShape(",", 1))], span)
        expected = [((0, 7), b"first"), ((0, 14), b"3rd"), ((0, 19), b"l\xc3\xa4st")]
        assert_that(rows, equal_to(expected))
    assert row_number(tmp_path / "odd [1].txt", 19) == 5


@pytest.mark.parametrize(
    ("table", "row", "rule"),
    [
        ("log.inter", "ann\ti1\t4\tnoon", "column 'time' must be an integer"),
        ("log.inter", f"ann\ti1\t4\t{1 << 63}", "column 'time' must fit 64 bits"),
        ("log.inter", "ann\t\t4\t7", "column 'item_id' must not be empty"),
        ("log.inter", "ann\ti1", "it must have 4 columns, and has 2"),
        ("log.inter", "ann\ti1\t4\t7\t", "it must have 4 columns, and has 5"),
        ("log.inter", "ann\ti\r1\t4\t7", "it must not hold a line end outside of quotes"),
        ("users.csv", 'gil,12,"cook\rhead",a,x', "column 'job' must not hold a line end"),
        ("users.csv", 'gil,12,cook,"a|b\rc",x', "column 'tags' must not hold a line end"),
        ("users.csv", '"g\ril",12,cook,a,x', "column 'id' must not hold a line end"),
        ("users.csv", 'gil,12,"cook,a,x', "its quotes must stand in pairs"),
        ("users.csv", "gil,12,cook, head,a,x", "it must have 5 columns, and has 6"),
        ("users.csv", "gil,young,cook,a,x", "column 'age' must be a number"),
        ("log.inter", "ann\ti1\t4\t1_000", "column 'time' must be an integer"),
        ("users.csv", "gil,1_0,cook,a,x", "column 'age' must be a number"),
        ("users.csv", "gil,1e39,cook,a,x", "column 'age' must be finite in 32 bits"),
        ("users.csv", "gil,inf,cook,a,x", "column 'age' must be finite in 32 bits"),
        ("users.csv", ",12,cook,a,x", "column 'id' must not be empty"),
    ],
)
def test_malformed_rows_are_named(tmp_path, table, row, rule):
    spec_path = write_twelve(tmp_path)
    lines = (tmp_path / table).read_text().splitlines()
    (tmp_path / table).write_text("\n".join([*lines[:4], row, *lines[4:]]) + "\n")
    with pytest.raises(Exception, match="InputError: ") as error, _pipeline() as pipeline:
        _ = pipeline | UserRecords(load_spec(spec_path), tmp_path, DATA)
    text = str(error.value)
    assert f"row 5 of {tmp_path / table}: {rule}" in text and "Correct or remove the row." in text
    # The error does not quote user features.
    assert "young" not in str(error.value)


def test_a_missing_column_is_found_before_anything_runs(tmp_path):
    spec_path = write_twelve(tmp_path)
    (tmp_path / "users.csv").write_text("id,job,tags\n")
    pipeline = _pipeline()
    with pytest.raises(InputError, match="column 'age'"):
        _ = pipeline | UserRecords(load_spec(spec_path), tmp_path, DATA)


def test_whole_numbers_with_a_point_are_times(tmp_path):
    spec_path = write_twelve(tmp_path)
    (tmp_path / "log.inter").write_text(TWELVE.replace("\t30\n", "\t30.0\n"))
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(spec_path), tmp_path, DATA)
        assert_that(splits["train"], equal_to([ANN]))


def test_a_repeated_user_counts_once(tmp_path):
    spec_path = write_twelve(tmp_path)
    with open(tmp_path / "users.csv", "a") as file:
        file.write("ann,77,cook,a,x\n")
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(spec_path), tmp_path, DATA, span=5)
        assert_that(splits["train"], equal_to([ANN]))
    assert counters.read(pipeline.result)["users_repeated"] == 1


def test_examples_keep_empty_fields():
    features = (Feature("age", "numeric"), Feature("job"), Feature("tags", "multi"))
    spec = {
        **{name: tf.io.RaggedFeature(tf.string) for name in BOB},
        "history_time": tf.io.RaggedFeature(tf.int64),
        "target_time": tf.io.RaggedFeature(tf.int64),
        "age": tf.io.RaggedFeature(tf.float32),
    }
    for record in (ANN, BOB, CAT, FAY):
        serialized = to_example(record, features)
        assert serialized == to_example(dict(reversed(record.items())), features)
        parsed = tf.io.parse_single_example(serialized, spec)
        assert {name: list(values.numpy()) for name, values in parsed.items()} == record
        assert set(tf.train.Example.FromString(serialized).features.feature) == set(record)

"""A table of several Parquet files: one unit of time for all, whatever the spec calls the files."""

import copy
import dataclasses
import datetime
import pathlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmclrec_tf.errors import InputError
from pipeline.datasets import check, load_spec, titles
from pipeline.datasets.formats import is_text
from pipeline.datasets.parquet_values import UNITS
from pipeline.datasets.table_specs import Interactions
from pipeline.transforms.user_records import CurrentUsers, UserRecords
from tests.pipeline.test_parquet_values import read
from tests.pipeline.test_transforms import ANN, BOB, CAT, DATA, FAY, _pipeline
from tests.pipeline.toy_datasets import TWELVE, TWELVE_SPEC, write_spec

LOG = Interactions("*.parquet", "id", "id", "a")
EPOCH = datetime.datetime(1970, 1, 1)
KINDS = {
    "s": pa.timestamp("s"),
    "ms": pa.timestamp("ms"),
    "us": pa.timestamp("us"),
    "us with a zone": pa.timestamp("us", "Europe/Berlin"),
    "ns": pa.timestamp("ns"),
    "int96": pa.timestamp("us"),
    "date": pa.date32(),
    "date of 64 bits": pa.date64(),
}
# Parquet has no seconds, and 96 bits are read as microseconds.
READ_AS = {"s": "ms", "us with a zone": "us", "int96": "us", "date": "d", "date of 64 bits": "d"}


def write(folder, name, column, **options):
    ids = pa.array(range(len(column)))
    pq.write_table(
        pa.table({"id": ids, "a": column}), folder / f"{name}.parquet", version="2.6", **options
    )


def write_times(folder, name, kind, days):
    """Writes midnights, as days since 1970, and nulls."""
    times = [None if day is None else EPOCH + datetime.timedelta(day) for day in days]
    if "date" in kind:
        times = [time and time.date() for time in times]
    column = pa.array(times, KINDS[kind])
    write(folder, name, column, use_deprecated_int96_timestamps=kind == "int96")


DAYS = st.lists(st.none() | st.integers(-100_000, 100_000), min_size=1, max_size=5)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=st.sampled_from([*KINDS]), second=st.sampled_from([*KINDS]), days=DAYS, more=DAYS)
def test_one_unit_for_all_files(tmp_path, first, second, days, more):
    write_times(tmp_path, "a", first, days)
    write_times(tmp_path, "b", second, more)
    units = [READ_AS.get(kind, kind) for kind in (first, second)]
    factor = max(UNITS[unit] for unit in units)
    expected = [b"" if day is None else b"%d" % (day * factor) for day in days + more]
    assert read(tmp_path, LOG) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_keeps_its_unit(tmp_path, kind):
    write_times(tmp_path, "a", kind, [2, None])
    assert read(tmp_path, LOG) == [b"%d" % (2 * UNITS[READ_AS.get(kind, kind)]), b""]


def test_zones_are_utc(tmp_path):
    berlin = datetime.timezone(datetime.timedelta(hours=1))
    times = [datetime.datetime(1970, 1, 1, 1, tzinfo=berlin)]
    write(tmp_path, "a", pa.array(times, pa.timestamp("us", "Europe/Berlin")))
    assert read(tmp_path, LOG) == [b"0"]


def test_a_far_date_stays_right(tmp_path):
    """Software writes 9999-12-31 for "never", which 64 bits of nanoseconds cannot hold."""
    never = datetime.datetime(9999, 12, 31)
    days = (never - EPOCH).days
    options = {"use_deprecated_int96_timestamps": True}
    write(tmp_path, "a", pa.array([never], pa.timestamp("us")), **options)
    assert read(tmp_path, LOG) == [b"%d" % (days * UNITS["us"])]
    write(tmp_path, "b", pa.array([EPOCH], pa.timestamp("ns")))
    assert read(tmp_path, LOG) == [b"%d" % (days * UNITS["ns"]), b"0"]
    assert days * UNITS["ns"] >= 1 << 63


@pytest.mark.parametrize(
    ("others", "kind"),
    [
        (pa.array([1]), "int64"),
        (pa.array([1.0]), "double"),
        (pa.array(["2024-01-01"]), "string"),
    ],
)
def test_times_and_other_values_in_one_table_are_refused(tmp_path, others, kind):
    write(tmp_path, "a", pa.nulls(1))
    write_times(tmp_path, "b", "ms", [1])
    write(tmp_path, "c", pa.nulls(1))
    assert read(tmp_path, LOG) == [b"", b"%d" % UNITS["ms"], b""]
    write(tmp_path, "d", others)
    paths = (f"timestamp.ms. in {tmp_path}/b.parquet and {kind} in {tmp_path}/d.parquet",)
    with pytest.raises(InputError, match=f"column 'a' with the types {paths[0]}: "):
        read(tmp_path, LOG)


def test_a_format_of_text_does_not_fit_time_stamps(tmp_path):
    log = dataclasses.replace(LOG, time_format="iso8601")
    write(tmp_path, "a", pa.array(["2024-01-01"]))
    assert read(tmp_path, log) == [b"2024-01-01"]
    write_times(tmp_path, "a", "us", [1])
    assert read(tmp_path, dataclasses.replace(LOG, time_format="number")) == [b"86400000000"]
    with pytest.raises(InputError, match="time_format='iso8601' of column 'a' of .*a.parquet: "):
        read(tmp_path, log)


def _columns(lines, delimiter):
    header, *rows = (line.split(delimiter) for line in lines)
    names = [name.split(":")[0] for name in header]
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _write_folders(folder):
    """Writes the twelve rows as three folders without an ending in their names."""
    log = _columns(TWELVE.splitlines(), "\t")
    log["time"] = [int(time) for time in log["time"]]
    people = {
        "id": ["bob", "ann", "eve", "dan", "fay"],
        "age": [41.0, 23.5, 99.0, 18.0, None],
        "job": ["cook, head", "nurse", "cook", "cook", "clerk"],
        "tags": [["a", None, "b"], ["b"], ["a"], [], None],
    }
    items = {"item": ["i1", "i2"], "title": ["One", "Two"]}
    names = {"log": ("part-0", "part-1.parquet"), "people": ("0.pq", "1"), "items": ("a", "b")}
    for name, columns in {"log": log, "people": people, "items": items}.items():
        table = pa.table(columns)
        (folder / name).mkdir()
        (folder / name / "_SUCCESS").touch()
        half = table.num_rows // 2
        parts = table.slice(0, half), table.slice(half)
        for part, file in zip(parts, names[name], strict=True):
            pq.write_table(part, folder / name / file, row_group_size=2)
    spec = copy.deepcopy(TWELVE_SPEC)
    spec["interactions"]["file"], spec["users"]["file"] = "log", "people/*"
    spec["items"] = {"file": "items", "id": "item", "title": "title"}
    return load_spec(write_spec(folder, spec))


def test_folders_and_patterns_of_any_name(tmp_path):
    spec = _write_folders(tmp_path)
    check(spec, tmp_path)
    assert not is_text(spec.interactions, tmp_path)
    assert titles(spec, tmp_path) == {"i1": "One", "i2": "Two"}
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(spec, tmp_path, DATA)
        assert_that(splits["train"], equal_to([ANN]), label="train")
        assert_that(splits["val"], equal_to([FAY]), label="val")
        assert_that(splits["test"], equal_to([CAT, BOB]), label="test")
        current = pipeline | CurrentUsers(spec, tmp_path, DATA)
        ids = current | beam.Map(lambda record: record["user_id"][0])
        everybody = [b"ann", b"bob", b"cat", b"dan", b"eve", b"fay"]
        assert_that(ids, equal_to(everybody), label="current")


def test_a_separator_inside_of_a_list_is_malformed(tmp_path):
    spec = _write_folders(tmp_path)
    people = {"id": ["cat"], "age": [1], "job": ["x"], "tags": [["R|B", "soul"]]}
    pq.write_table(pa.table(people), tmp_path / "people" / "2")
    message = "row 1 of .*people/2: the values of the list in column 'tags' must not hold its sep"
    with pytest.raises(Exception, match=message), _pipeline() as pipeline:
        _ = pipeline | UserRecords(spec, tmp_path, DATA)
    text = pathlib.Path(tmp_path / "twelve.yaml").read_text()
    changed = text.replace("kind: multi", 'kind: multi\n    separator: "\\x1F"')
    (tmp_path / "twelve.yaml").write_text(changed)
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(load_spec(tmp_path / "twelve.yaml"), tmp_path, DATA)
        tags = splits["test"] | beam.Map(lambda record: (record["user_id"], record["tags"]))
        assert_that(tags, equal_to([([b"cat"], [b"R|B", b"soul"]), ([b"bob"], [b"a", b"b"])]))

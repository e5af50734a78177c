"""Parquet and compressed text: the same rows as plain text, and errors that name the fault."""

import copy
import gzip
import pathlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.errors import InputError
from pipeline.datasets import check, fetch, load_spec, titles
from pipeline.datasets.parquet import Column
from pipeline.transforms import counters
from pipeline.transforms.read_parquet import ReadParquet
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.test_transforms import ANN, BOB, CAT, DATA, FAY, _pipeline
from tests.pipeline.toy_datasets import TWELVE, TWELVE_SPEC, TWELVE_USERS, write_spec

KUAIRAND = pathlib.Path(__file__).parents[3] / "shared" / "data" / "kuairand-pure"


@pytest.fixture
def twelve(tmp_path):
    """Writes the twelve rows as Parquet of three row groups, and the users as compressed text."""
    users, items, _, times = zip(*(row.split("\t") for row in TWELVE.splitlines()[1:]), strict=True)
    log = {
        "rating": [0.5] * 12,
        "time": pa.array(map(int, times), pa.int16()),
        "user_id": list(users),
        "item_id": list(items),
    }
    pq.write_table(pa.table(log), tmp_path / "log [1].parquet", row_group_size=5)
    with gzip.open(tmp_path / "users.csv.gz", "wt") as file:
        file.write(TWELVE_USERS)
    spec = copy.deepcopy(TWELVE_SPEC)
    spec["interactions"]["file"] = "log [1].parquet"
    spec["users"]["file"] = "users.csv.gz"
    return write_spec(tmp_path, spec)


def _splits(pipeline, spec_path):
    return pipeline | UserRecords(load_spec(spec_path), spec_path.parent, DATA, span=7)


def test_the_records_equal_those_of_plain_text(twelve, tmp_path):
    check(load_spec(twelve), tmp_path)
    with _pipeline() as pipeline:
        splits = _splits(pipeline, twelve)
        assert_that(splits["train"], equal_to([ANN]), label="train")
        assert_that(splits["val"], equal_to([FAY]), label="val")
        assert_that(splits["test"], equal_to([CAT, BOB]), label="test")
    assert counters.read(pipeline.result)["events"] == 12


def test_rows_are_numbered_over_the_row_groups(tmp_path):
    table = pa.table({"a": range(7), "b": ["x"] * 7, "c": [None, *"bcdefg"]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    expected = [((0, n), (b"" if n == 0 else b"abcdefg"[n : n + 1], b"%d" % n)) for n in range(7)]
    with _pipeline() as pipeline:
        columns = Column("c"), Column("a")
        rows_read = pipeline | ReadParquet([(tmp_path / "t.parquet", columns)])
        assert_that(rows_read, equal_to(expected))


def test_malformed_rows_are_named(twelve, tmp_path):
    path = tmp_path / "log [1].parquet"
    whole = pq.read_table(path)
    items = whole["item_id"].to_pylist()
    items[7] = None
    broken = whole.set_column(whole.column_names.index("item_id"), "item_id", pa.array(items))
    pq.write_table(broken, path, row_group_size=5)
    with pytest.raises(Exception, match="InputError: ") as error, _pipeline() as pipeline:
        _splits(pipeline, twelve)
    assert f"row 8 of {path}: column 'item_id' must not be empty." in str(error.value)
    pq.write_table(whole, path)
    with gzip.open(tmp_path / "users.csv.gz", "wt") as file:
        file.write(TWELVE_USERS.replace("fay,", "fay,young"))
    with pytest.raises(Exception, match="InputError: ") as error, _pipeline() as pipeline:
        _splits(pipeline, twelve)
    message = f"row 6 of {tmp_path / 'users.csv.gz'}: column 'age' must be a number."
    assert message in str(error.value)


def test_files_that_are_not_of_the_format_of_their_names(twelve, tmp_path):
    spec = load_spec(twelve)
    (tmp_path / "users.csv.gz").write_text(TWELVE_USERS)
    with pytest.raises(InputError, match="users.csv.gz: .* must be whole gzip"):
        check(spec, tmp_path)
    (tmp_path / "users.csv.gz").write_bytes(gzip.compress(TWELVE_USERS.encode())[:-30])
    with pytest.raises(Exception, match="users.csv.gz: .* must be whole gzip"):
        check(spec, tmp_path)
        with _pipeline() as pipeline:
            _splits(pipeline, twelve)
    (tmp_path / "log [1].parquet").write_text(TWELVE)
    with pytest.raises(InputError, match="it must be a Parquet file"):
        check(spec, tmp_path)


def test_a_missing_column_of_parquet(twelve, tmp_path):
    pq.write_table(pa.table({"user_id": ["a"], "time": [1]}), tmp_path / "log [1].parquet")
    for step in (lambda: check(load_spec(twelve), tmp_path), lambda: _splits(_pipeline(), twelve)):
        with pytest.raises(InputError, match=r"column 'item_id' .*\['user_id', 'time'\]"):
            step()


def test_titles_of_parquet_and_of_compressed_text(tmp_path):
    spec = {**TWELVE_SPEC, "items": {"file": "items.parquet", "id": "item", "title": "title"}}
    pq.write_table(
        pa.table({"title": ["One", " Two"], "item": [1.0, 2.0]}), tmp_path / "items.parquet"
    )
    assert titles(load_spec(write_spec(tmp_path, spec)), tmp_path) == {"1": "One", "2": "Two"}
    spec["items"]["file"] = "items.csv.gz"
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(b'item,title\n1,"One, a"\n'))
    assert titles(load_spec(write_spec(tmp_path, spec)), tmp_path) == {"1": "One, a"}


def test_values_that_stand_for_missing(twelve, tmp_path):
    spec = copy.deepcopy(load_spec(twelve).to_dict())
    age, job, tags = spec["users"]["features"]
    age["missing"], job["missing"], tags["missing"] = ("23.5",), ("cook, head", "x"), ("a",)
    spec.pop("source"), spec.pop("items")
    with _pipeline() as pipeline:
        splits = _splits(pipeline, write_spec(tmp_path, _with_lists(spec)))
        assert_that(splits["train"], equal_to([{**ANN, "age": []}]), label="train")
        bob = {**BOB, "job": [], "tags": [b"b"]}
        assert_that(splits["test"] | beam.Map(dict), equal_to([CAT, bob]), label="test")


def _with_lists(value):
    """Replaces tuples by lists, since YAML has no tuples."""
    if isinstance(value, dict):
        return {key: _with_lists(inner) for key, inner in value.items()}
    return [_with_lists(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def test_kuairand_asks_for_its_files():
    with pytest.raises(InputError) as error:
        fetch(load_spec("kuairand-pure"))
    message = str(error.value)
    assert "doi:10.1145/3511808.3557624" in message and "\n" not in message
    assert "the folder that holds interactions.parquet and users.csv.gz by --data-dir" in message


def test_kuairand_spec_fits_its_files():
    if not KUAIRAND.is_dir():
        pytest.skip(f"needs the files of KuaiRand-Pure in {KUAIRAND}")
    spec = load_spec("kuairand-pure")
    check(spec, KUAIRAND)
    with gzip.open(KUAIRAND / spec.users.file, "rt") as file:
        header = file.readline().strip().split(",")
    used = {column.column for column in spec.users.features}
    counts = {f"{who}_user_num" for who in ("follow", "fans", "friend")}
    assert set(header) - used == {"user_id", "is_lowactive_period", *counts}


def test_movielens_1m_spec():
    spec = load_spec("movielens-1m")
    assert [feature.is_numeric for feature in spec.features] == [False] * 4
    assert spec.features[-1].prefix == 1 and spec.users.features[-1].column == "zip_code"
    assert spec.files == ("ml-1m.inter", "ml-1m.user", "ml-1m.item")

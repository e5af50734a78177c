"""Files that a name in a dataset spec stands for, on this machine and on a remote file system."""

import copy
import gzip
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.errors import InputError
from pipeline.datasets import check, fetch, load_spec, states, titles
from pipeline.storage.files import list_files, state
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.ram_filesystem import ROOT, RamFileSystem
from tests.pipeline.test_transforms import ANN, BOB, CAT, DATA, FAY, _pipeline, _records
from tests.pipeline.toy_datasets import (
    TWELVE,
    TWELVE_SPEC,
    write_clusters,
    write_spec,
    write_twelve,
)


@pytest.fixture(params=["local", "remote"])
def write_files(request, tmp_path):
    """A function that writes empty files by their names and returns their folder."""

    def write(*names):
        folder = tmp_path / "odd [1] {a}*?" if request.param == "local" else tmp_path / "plain"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        return str(folder) if request.param == "local" else RamFileSystem.hold(folder)

    return write


def test_a_file_wins_over_a_pattern(write_files):
    folder = write_files("log [1].csv", "log 1.csv", "log*.csv")
    assert list_files(folder, "log [1].csv") == [f"{folder}/log [1].csv"]
    assert list_files(folder, "log*.csv") == [f"{folder}/log*.csv"]
    assert list_files(folder, "log [12].csv") == [f"{folder}/log 1.csv"]


def test_folders_and_patterns_in_order(write_files):
    folder = write_files(
        "log/b.csv",
        "log/a.csv",
        "log/_SUCCESS",
        "log/.hidden",
        "log/deep/c.csv",
        "d1.csv",
        "d2.csv",
    )
    assert list_files(folder, "log") == [f"{folder}/log/a.csv", f"{folder}/log/b.csv"]
    assert list_files(folder, "log/*.csv") == list_files(folder, "log")
    assert list_files(folder, "d?.csv") == [f"{folder}/d1.csv", f"{folder}/d2.csv"]
    for missing in ("other.csv", "e*.csv", "log/deep/x"):
        with pytest.raises(InputError, match="the dataset needs this file") as error:
            list_files(folder, missing)
        assert f"{folder}/{missing}" in str(error.value)


def test_an_unknown_file_system_is_named():
    with pytest.raises(InputError, match="nosuch://bucket/a.csv: its file system"):
        list_files("nosuch://bucket", "a.csv")


def test_the_state_changes_with_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    before = state(tmp_path / "a.csv")
    assert RamFileSystem.hold(tmp_path, at=5.5) == ROOT
    assert state(f"{ROOT}/a.csv") == [1, 5_500_000_000]
    (tmp_path / "a.csv").write_text("22")
    assert state(tmp_path / "a.csv")[0] == 2 != before[0]


def _write_three_files(folder):
    """Writes the twelve rows as three files; returns the path of the spec.

    One file is compressed, and the columns of another have a different order.
    """
    write_twelve(folder)
    header, *rows = TWELVE.splitlines()
    (folder / "log.inter").unlink()
    (folder / "log").mkdir()
    (folder / "log" / "1.inter").write_text("\n".join([header, *rows[:4]]) + "\n")
    with gzip.open(folder / "log" / "2.inter.gz", "wt") as file:
        file.write("\n".join([header, *rows[4:9]]) + "\n")
    reversed_rows = ["\t".join(row.split("\t")[::-1]) for row in (header, *rows[9:])]
    (folder / "log" / "3.inter").write_text("\n".join(reversed_rows) + "\n")
    spec = copy.deepcopy(TWELVE_SPEC)
    spec["interactions"]["file"] = "log"
    return write_spec(folder, spec)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("span", [5, 1 << 20])
def test_records_of_many_files(tmp_path, remote, span):
    spec = load_spec(_write_three_files(tmp_path))
    folder = RamFileSystem.hold(tmp_path) if remote else tmp_path
    check(spec, folder)
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(spec, folder, DATA, span)
        assert_that(splits["train"], equal_to([ANN]), label="train")
        assert_that(splits["val"], equal_to([FAY]), label="val")
        assert_that(splits["test"], equal_to([CAT, BOB]), label="test")
    assert len(states(spec, folder)) == 4


def test_a_fault_in_one_of_many_files_is_named(tmp_path):
    spec_path = _write_three_files(tmp_path)
    path = tmp_path / "log" / "2.inter.gz"
    text = gzip.decompress(path.read_bytes()).replace(b"\t1\n", b"\tx\n")
    path.write_bytes(gzip.compress(text))
    with pytest.raises(Exception, match=f"row 3 of {path}: column 'time'"):
        _records(spec_path)


def test_remote_parquet_and_titles(tmp_path):
    raw = tmp_path / "raw"
    spec = load_spec(write_clusters(raw, n_users=60))
    whole, _ = _records(raw / "clusters.yaml")
    text = [line.split(",") for line in (raw / "interactions.csv").read_text().splitlines()]
    columns = dict(zip(text[0], map(list, zip(*text[1:], strict=True)), strict=True))
    half = len(text) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        table = pa.table({name: values[part] for name, values in columns.items()})
        pq.write_table(table, raw / f"part-{number}.parquet", row_group_size=50)
    changed = {**spec.to_dict(), "interactions": {**spec.to_dict()["interactions"]}}
    changed["interactions"]["file"] = "part-*.parquet"
    spec = type(spec).from_dict(changed)
    folder = fetch(spec, RamFileSystem.hold(raw))
    assert folder == ROOT
    assert titles(spec, folder)["it7"] == "Item 7, a title"
    with _pipeline() as pipeline:
        for split, records in (pipeline | UserRecords(spec, folder, DATA)).items():
            expected = [eval(line) for line in whole[split]]  # noqa: S307
            assert_that(records, equal_to(expected), label=split)


def test_files_of_two_formats_are_refused(tmp_path):
    spec_path = _write_three_files(tmp_path)
    rows = {"user_id": ["a"], "item_id": ["b"], "rating": [1], "time": [1]}
    pq.write_table(pa.table(rows), tmp_path / "log" / "4.parquet")
    with pytest.raises(InputError, match="1.inter and .*4.parquet: .* all Parquet or all delim"):
        check(load_spec(spec_path), tmp_path)


def test_a_damaged_compressed_file_is_named_with_its_byte(tmp_path):
    spec_path = write_clusters(tmp_path)
    text = (tmp_path / "interactions.csv").read_bytes()
    rng = random.Random(0)
    noise = b"".join(
        b"u%d,it%d,%d\n" % (rng.randrange(240), rng.randrange(80), n) for n in range(90_000)
    )
    packed = bytearray(gzip.compress(text + noise))
    at = len(packed) * 2 // 3
    packed[at : at + 40] = bytes(40)
    _replace_log(spec_path, tmp_path / "interactions.csv.gz", bytes(packed))
    # Before the damage is noticed, some noise is decompressed, which makes malformed rows.
    with open(spec_path, "a") as file:
        file.write("max_rejects: 100000\n")
    with pytest.raises(
        Exception, match=r"interactions.csv.gz: .* at or before byte (\d+)"
    ) as error:
        _records(spec_path)
    byte = int(str(error.value).split("before byte ")[1].split(".")[0])
    assert at - 200_000 < byte <= len(packed) and byte >= at


def test_a_damaged_row_group_is_named_with_its_byte(tmp_path):
    spec_path = write_clusters(tmp_path)
    lines = (tmp_path / "interactions.csv").read_text().splitlines()[1:]
    columns = zip(*(line.split(",") for line in lines), strict=True)
    table = pa.table(dict(zip(("user", "item", "time"), map(list, columns), strict=True)))
    path = tmp_path / "interactions.parquet"
    pq.write_table(table, path, row_group_size=500, compression="gzip")
    group = pq.ParquetFile(path).metadata.row_group(2)
    start = group.column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 60] = bytes(60)
    _replace_log(spec_path, path, bytes(content))
    with pytest.raises(Exception, match=f"row group 2, which begins at byte {start},") as error:
        _records(spec_path)
    assert str(path) in str(error.value)


def _replace_log(spec_path, path, content):
    """Writes the log to another file, and names that file in the spec."""
    path.write_bytes(content)
    text = pathlib.Path(spec_path).read_text()
    pathlib.Path(spec_path).write_text(text.replace("interactions.csv", path.name))

"""The look at the first rows, before anything heavy is imported."""

import copy
import dataclasses
import gzip
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmclrec_tf.errors import InputError
from pipeline.datasets import check, load_spec
from pipeline.datasets.table_specs import UserColumn
from pipeline.transforms.first_rows import parser_of
from pipeline.transforms.layouts import BigQueryLayout, layout_of
from pipeline.transforms.row_values import MalformedError
from tests.pipeline.toy_datasets import write_spec

USERS = "id,age\n" + "".join(f"u{n},{n}\n" for n in range(20))
SPEC = {
    "name": "shop",
    "interactions": {"file": "log.csv", "user": "user", "item": "item", "time": "at"},
    "users": {"file": "users.csv", "id": "id", "features": [{"name": "age", "kind": "numeric"}]},
}


def _write(folder, times, file="log.csv", **changes):
    """Writes a log with a row for each time, its users and its spec; returns the spec."""
    users, items = [f"u{n % 20}" for n in range(len(times))], [f"i{n}" for n in range(len(times))]
    lines = ["user,item,at", *map(",".join, zip(users, items, times, strict=True)), ""]
    (folder / "users.csv").write_text(USERS)
    if file.endswith(".parquet"):
        columns = {"user": users, "item": items, "at": times}
        text = {name: pa.array(values, pa.string()) for name, values in columns.items()}
        pq.write_table(pa.table(text), folder / file)
    elif file.endswith(".gz"):
        (folder / file).write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        (folder / file).write_text("\n".join(lines))
    spec = copy.deepcopy({**SPEC, **changes})
    spec["interactions"]["file"] = file
    return load_spec(write_spec(folder, spec))


@pytest.mark.parametrize("file", ["log.csv", "log.csv.gz", "log.parquet"])
def test_all_rows_are_malformed(tmp_path, file):
    spec = _write(tmp_path, ["24.08.2025"] * 1500 + [""] * 9, file, max_rejects=9999)
    with pytest.raises(InputError) as error:
        check(spec, tmp_path)
    row = 1 if file.endswith(".parquet") else 2
    assert str(error.value).startswith(
        f"row {row} of {tmp_path / file}: column 'at' must be an integer (1000 of the first 1000 "
        "rows are malformed). Correct the file or the dataset spec. "
        "If it holds dates, set time_format"
    )


def test_more_rows_are_malformed_than_may_be(tmp_path):
    times = ["2025-08-24T07:08:00+02:00"] * 50
    times[7], times[9], times[11] = "", "soon", "2025-08-24 07:08 CEST"
    check(_write(tmp_path, times, max_rejects=3), tmp_path)
    with pytest.raises(InputError) as error:
        check(_write(tmp_path, times, max_rejects=2), tmp_path)
    message = str(error.value)
    assert message.startswith(f"row 9 of {tmp_path / 'log.csv'}: column 'at' must be a time of ISO")
    assert "(3 of the first 50 rows are malformed" in message and "max_rejects=2" in message
    assert "soon" not in message


def test_users_are_looked_at_too(tmp_path):
    spec = _write(tmp_path, ["1", "2"])
    (tmp_path / "users.csv").write_text('id,age\nu1,young\n"u2,3\n')
    with pytest.raises(InputError, match="row 2 of .*users.csv: column 'age' must be a number"):
        check(spec, tmp_path)


def test_tables_without_rows_are_left_to_the_run(tmp_path):
    check(_write(tmp_path, []), tmp_path)


def test_a_mistake_costs_no_heavy_import(tmp_path):
    _write(tmp_path, ["24.08.2025"] * 9)
    start = "from cmclrec_tf.cli import main; main()"
    command = [sys.executable, "-X", "importtime", "-c", start, "prepare"]
    files = [str(tmp_path / "shop.yaml"), "--data-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, *files, "--root", str(tmp_path / "var")], capture_output=True, text=True
    )
    assert done.returncode and "column 'at' must be an integer" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipeline.transforms.first_rows" in imported
    assert not {"tensorflow", "tfx", "apache_beam"} & imported


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("format_", ["csv", "parquet", "bigquery"])
def test_no_token_holds_a_line_end(tmp_path, format_, end):
    """Neither an id of a user or item nor a category, in whichever way a table comes in."""
    spec = _write(tmp_path, ["1", "2"])
    features = (UserColumn("job"), UserColumn("tags", "multi"))
    log = {"user": ["u1", f"u{end}2", "u3"], "item": [f"i{end}1", "i2", "i3"], "at": ["1"] * 3}
    users = {
        "id": ["u1", f"u{end}2", "u3", "u4"],
        "job": [f"a{end}b", "x", "x", "x"],
        "tags": ["x", "x", f"a|b{end}c", "x"],
    }
    for name, columns in (("interactions", log), ("users", users)):
        table = dataclasses.replace(getattr(spec, name), file=f"{name}.{format_}")
        if name == "users":
            table = dataclasses.replace(table, features=features)
        rows = _rows(tmp_path, table, columns, format_)
        layout, parser = rows[0], parser_of(table, rows[0])
        faults = []
        for place, raw in rows[1]:
            try:
                parser.parse(place, layout.columns(place, raw))
            except MalformedError as error:
                faults.append(str(error))
        fields = ("item", "user") if name == "interactions" else ("job", "id", "tags")
        assert faults == [f"column {f!r} must not hold a line end inside a value" for f in fields]


def _rows(folder, table, columns, format_):
    """Writes a table; returns its layout and the first rows."""
    rows = list(zip(*columns.values(), strict=True))
    if format_ == "bigquery":
        layout = BigQueryLayout("bigquery://a.b.c", list(columns))
        return layout, [
            ((0, n), dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)
        ]
    if format_ == "parquet":
        pq.write_table(pa.table(columns), folder / table.file)
    else:
        lines = [",".join(columns), *(",".join(f'"{value}"' for value in row) for row in rows)]
        (folder / table.file).write_bytes("\n".join(lines).encode() + b"\n")
    layout = layout_of(table, folder)
    return layout, layout.first_rows()


@pytest.mark.parametrize("format_", ["csv", "csv.gz", "parquet"])
def test_the_first_rows_span_the_files(tmp_path, format_):
    """A file without rows, which Spark writes first, decides nothing."""
    spec = _parts(tmp_path, format_, [], ["2025-08-24"] * 9, ["2025-08-25"] * 2000)
    layout = layout_of(spec.interactions, tmp_path)
    assert parser_of(spec.interactions, layout).table.time_format == "iso8601"
    places = [place for place, _ in layout.first_rows()]
    assert len(places) == 2009 and places == sorted(places)
    assert [place[0] for place in places] == [1] * 9 + [2] * 2000
    check(spec, tmp_path)


@pytest.mark.parametrize("format_", ["csv", "csv.gz", "parquet"])
def test_a_malformed_first_file_is_no_malformed_table(tmp_path, format_):
    files = ["soon"] * 3, ["1"] * 2000
    check(_parts(tmp_path, format_, *files, max_rejects=3), tmp_path)
    with pytest.raises(InputError, match=r"part-0.*\(3 of the first 1000 rows are malformed"):
        check(_parts(tmp_path, format_, *files, max_rejects=2), tmp_path)
    with pytest.raises(InputError, match=r"part-0.*\(5 of the first 5 rows are malformed"):
        check(_parts(tmp_path, format_, ["soon"] * 3, ["x"] * 2, max_rejects=100), tmp_path)


def _parts(folder, format_, *files, **changes):
    """Writes a log of several files with a row for each time; returns the spec."""
    (folder / "log").mkdir(exist_ok=True)
    for old in (folder / "log").iterdir():
        old.unlink()
    for number, times in enumerate(files):
        _write(folder, times, f"log/part-{number}.{format_}")
    spec = copy.deepcopy({**SPEC, **changes})
    spec["interactions"]["file"] = "log"
    return load_spec(write_spec(folder, spec))

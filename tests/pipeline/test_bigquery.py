"""BigQuery tables, without an account: a job is compiled, and single rows are read."""

import copy
import dataclasses
import datetime
import decimal
import json

import apache_beam as beam
import pytest

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.errors import InputError
from pipeline.datasets import check, load_spec, states
from pipeline.transforms.first_rows import parser_of
from pipeline.transforms.layouts import layout_of
from pipeline.transforms.read_bigquery import with_place
from pipeline.transforms.row_values import MalformedError
from pipeline.transforms.user_records import UserRecords
from tests.pipeline.toy_datasets import TWELVE_SPEC, TWELVE_USERS, write_spec

LOG = "bigquery://a-project.logs.events"


@pytest.fixture
def spec(tmp_path):
    changed = copy.deepcopy(TWELVE_SPEC)
    changed["interactions"] = {"file": LOG, "user": "user_id", "item": "item_id", "time": "at"}
    (tmp_path / "users.csv").write_text(TWELVE_USERS)
    return load_spec(write_spec(tmp_path, changed))


def test_a_table_is_read_through_the_storage_api(spec, tmp_path):
    check(spec, tmp_path)
    pipeline = beam.Pipeline(argv=["--runner=FnApiRunner"])
    _ = pipeline | UserRecords(spec, tmp_path, DataConfig())
    steps = {step.unique_name for step in pipeline.to_runner_api().components.transforms.values()}
    table = "UserRecords/Joined/Interactions/Read/Read/Table"
    assert any(step.startswith(table) for step in steps)
    assert not any("Read/Spans" in step and "Interactions" in step for step in steps)


def test_a_table_counts_as_changed(spec, tmp_path):
    first, second = (states(spec, tmp_path) for _ in range(2))
    assert first[LOG] != second[LOG]
    assert len(first) == 2 and first.keys() == second.keys()


def test_values_become_text(spec, tmp_path):
    table = layout_of(spec.interactions, tmp_path)
    at = datetime.datetime(2024, 5, 1, 12, 0, 0, 250, tzinfo=datetime.timezone.utc)
    row = {"user_id": 17, "item_id": " K\u00f6ln ", "at": at}
    place, raw = with_place(row)
    assert table.columns(place, raw) == {
        "user_id": b"17",
        "item_id": "K\u00f6ln".encode(),
        "at": b"%d" % (int(at.timestamp()) * 1_000_000 + 250),
    }
    assert table.columns(place, {"user_id": None, "item_id": b"\xff", "at": float("nan")}) == {
        "user_id": b"",
        "item_id": b"\xff",
        "at": b"",
    }
    forms = [(1.0, b"1"), (1e22, b"1" + b"0" * 22), (1e-7, b"0.0000001"), (True, b"true")]
    forms += [(decimal.Decimal("2.50"), b"2.5"), (datetime.date(2024, 5, 1), b"2024-05-01")]
    for value, expected in forms:
        assert table.columns(place, {**row, "item_id": value})["item_id"] == expected
    with pytest.raises(MalformedError, match="'item_id' must hold numbers, text or time stamps"):
        table.columns(place, {**row, "item_id": ["a", "b"]})


@pytest.mark.parametrize("zone", [None, datetime.timezone.utc])
def test_time_stamps_are_numbers_or_iso_8601(spec, tmp_path, zone):
    at = datetime.datetime(2024, 5, 1, 12, 0, 0, 250, tzinfo=zone)
    row, place = {"user_id": "a", "item_id": "b", "at": at}, (0, 1)
    times = []
    for time_format in ("", "number", "iso8601"):
        log = dataclasses.replace(spec.interactions, time_format=time_format)
        layout = layout_of(log, tmp_path)
        _, ((_, (time, _, _)),) = parser_of(log, layout).parse(place, layout.columns(place, row))
        times.append(time)
    assert times == [1714564800 * 10**6 + 250] * 3
    log = dataclasses.replace(spec.interactions, time_format="%Y-%m-%d")
    with pytest.raises(MalformedError, match="'at' holds time stamps") as error:
        layout_of(log, tmp_path).columns(place, row)
    assert "Drop time_format" in error.value.fix


def test_a_row_has_the_same_place_in_every_run():
    row = {"user": "a", "at": datetime.datetime(2024, 5, 1)}
    assert with_place(row)[0] == with_place(dict(reversed(row.items())))[0]
    assert with_place(row)[0] != with_place({**row, "user": "b"})[0]
    assert 0 <= with_place(row)[0][1] < 1 << 63


def test_a_malformed_table_name_is_refused(tmp_path):
    changed = copy.deepcopy(TWELVE_SPEC)
    for name in ("bigquery://events", "bigquery://a.b.c.d", "bigquery://a..c"):
        changed["users"]["file"] = name
        with pytest.raises(InputError, match="bigquery://project.dataset.table"):
            load_spec(write_spec(tmp_path, changed))
    changed["users"]["file"] = "users.csv"
    changed["items"] = {"file": "bigquery://a.b.c", "id": "i", "title": "t"}
    with pytest.raises(InputError, match="items"):
        load_spec(write_spec(tmp_path, changed))


@pytest.mark.pipeline
def test_a_job_over_tables_is_compiled(spec, tmp_path):
    from pipeline.commands.compile_job import compile_job

    out = tmp_path / "job.json"
    folders = {"root": str(tmp_path / "root"), "serving_dir": str(tmp_path / "serving")}
    compile_job(spec, str(tmp_path), Config(), image="i:1", out=out, **folders)
    job = json.loads(out.read_text())
    values = job["pipelineSpec"]["root"]["dag"]["tasks"]["ExampleGen"]["inputs"]["parameters"]
    assert LOG in json.dumps(values)

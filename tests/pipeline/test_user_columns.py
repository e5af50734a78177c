"""User features of a dataset spec: dates, crosses and rare values, from raw files to ids."""

import copy
import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from cmclrec_tf.errors import InputError
from pipeline import preprocessing
from pipeline.datasets import check, load_spec
from pipeline.datasets.user_columns import UserColumn
from pipeline.transforms.date_texts import date_text
from pipeline.transforms.first_rows import parser_of
from pipeline.transforms.layouts import BigQueryLayout, layout_of
from pipeline.transforms.row_values import MalformedError
from tests.pipeline.toy_datasets import TWELVE, TWELVE_SPEC, write_spec

BIRTH = {"name": "birth", "kind": "date", "as_of": "2024-04-30"}
DAYS = [datetime.date(1990, 5, 17), None, datetime.date(1969, 12, 31)]


def _spec(folder, *features, file="people.csv"):
    (folder / "log.inter").write_text(TWELVE)
    changed = copy.deepcopy(TWELVE_SPEC)
    changed["users"].update(file=file, features=list(features))
    return load_spec(write_spec(folder, changed))


def _csv(folder, texts, **settings):
    (folder / "people.csv").write_text("\n".join(["id,birth", *(f"u,{text}" for text in texts)]))
    return _spec(folder, {**BIRTH, **settings})


def _births(spec, folder):
    """Returns the births of all rows."""
    layout = layout_of(spec.users, folder)
    parser = parser_of(spec.users, layout)
    rows = [layout.columns(place, raw) for place, raw in layout.first_rows()]
    parsed = [parser.parse((0, n), row)[1][0][1][1] for n, row in enumerate(rows)]
    return [row["birth"] for row in parsed]


@pytest.mark.parametrize(
    ("time_format", "texts"),
    [
        ("", ["1990-05-17", "", "1969-12-31"]),
        ("iso8601", ["1990-05-17T01:30:00+01:00", "nan", "1969-12-30T23:00:00-05:00"]),
        ("%d.%m.%Y", ["17.05.1990", "null", "31.12.1969"]),
        ("days", ["7441", "", "-1"]),
        ("seconds", ["642902400", "", "-1"]),
        ("milliseconds", ["642902400000.0", "", "-1"]),
        ("nanoseconds", ["642902400000000000", "", "-1"]),
    ],
)
def test_dates_of_every_format_have_one_text(tmp_path, time_format, texts):
    spec = _csv(tmp_path, texts, time_format=time_format) if time_format else _csv(tmp_path, texts)
    check(spec, tmp_path)
    assert _births(spec, tmp_path) == [[b"1990-05-17"], [], [b"1969-12-31"]]


def test_texts_that_mean_unknown(tmp_path):
    spec = _csv(tmp_path, ["1900-01-01", "1990-05-17"], missing=["1900-01-01"])
    assert _births(spec, tmp_path) == [[], [b"1990-05-17"]]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("ms"), pa.timestamp("ns", "UTC")])
def test_dates_of_parquet_need_no_format(tmp_path, kind):
    days = [day and datetime.datetime(day.year, day.month, day.day) for day in DAYS]
    births = pa.array(DAYS if kind == pa.date32() else days, kind)
    pq.write_table(pa.table({"id": ["a", "b", "c"], "birth": births}), tmp_path / "p.parquet")
    spec = _spec(tmp_path, BIRTH, file="p.parquet")
    assert _births(spec, tmp_path) == [[b"1990-05-17"], [], [b"1969-12-31"]]
    with pytest.raises(InputError, match="time_format='days' of column 'birth' of .*: the column"):
        check(_spec(tmp_path, {**BIRTH, "time_format": "days"}, file="p.parquet"), tmp_path)


def test_dates_of_bigquery_need_no_format(tmp_path):
    users = _csv(tmp_path, []).users
    layout = BigQueryLayout("bigquery://a.b.c", ["id", "birth"], {"birth": "iso8601"})
    parser = parser_of(users, layout)
    noon = datetime.datetime(1990, 5, 17, 12, tzinfo=datetime.timezone.utc)
    for value in (DAYS[0], noon):
        row = layout.columns((0, 0), {"id": "a", "birth": value})
        assert parser.parse((0, 0), row)[1] == [(b"a", ((0, 0), {"birth": [b"1990-05-17"]}))]


def test_malformed_dates_stop_before_anything_runs(tmp_path):
    spec = _csv(tmp_path, ["1990-05-17", "17.05.1990"])
    with pytest.raises(InputError, match="row 3 of .*: column 'birth' must be a time of ISO 8601"):
        check(spec, tmp_path)
    (tmp_path / "people.csv").write_text("id,birth\nu,1990-05-17\n")
    with pytest.raises(InputError, match="column 'birth' must be a number .* needs the kind date"):
        check(_spec(tmp_path, {"name": "birth", "kind": "numeric"}), tmp_path)
    with pytest.raises(MalformedError, match="'birth' must hold dates of the years 1 to 9999"):
        date_text(b"642902400000", "birth", "seconds")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_format": "number"}, "time_format='number': the day .* is one of .*'seconds'"),
        ({"time_format": "%d.%m."}, "time_format='%d.%m.': it must be"),
        ({"kind": "numeric", "time_format": "days"}, "time_format='days': only a date has one"),
        ({"kind": "cross", "column": "a"}, "column='a' .*: a cross is made of other features"),
        ({"most_values": 9}, "most_values=9"),
        ({"kind": "numeric", "min_users": 2}, "min_users=2: it must be a positive number, of a fe"),
        ({"kind": "categorical", "min_users": -1}, "min_users=-1"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        UserColumn(**{**BIRTH, **changes})


def test_a_day_needs_no_quotes(tmp_path):
    (tmp_path / "people.csv").write_text("id,birth\n")
    path = write_spec(tmp_path, TWELVE_SPEC)
    text = "users: {file: people.csv, id: id, features: [{name: b, kind: date, as_of: 2024-04-30}]}"
    path.write_text(path.read_text().split("users:")[0] + text)
    assert load_spec(path).features[0].as_of == "2024-04-30"
    path.write_text(path.read_text().replace(", as_of: 2024-04-30", ""))
    with pytest.raises(InputError, match="'b' of kind date with as_of='': .* such as 2024-04-30"):
        load_spec(path)


def test_records_hold_no_cross(tmp_path):
    cross = {"name": "both", "kind": "cross", "of": ["job", "zip"], "most_values": 5}
    (tmp_path / "people.csv").write_text("id,job,zip\na,cook,9\n")
    spec = _spec(tmp_path, {"name": "job"}, {"name": "zip"}, cross)
    check(spec, tmp_path)
    assert [column.name for column in spec.users.columns] == ["job", "zip"]
    layout = layout_of(spec.users, tmp_path)
    ((place, raw),) = layout.first_rows()
    parsed = parser_of(spec.users, layout).parse(place, layout.columns(place, raw))
    assert parsed == ("", [(b"a", (place, {"job": [b"cook"], "zip": [b"9"]}))])


def test_transform_maps_dates_crosses_and_rare_values(tmp_path):
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    cross = {"name": "both", "kind": "cross", "of": ["job", "zip"]}
    features = [BIRTH, {"name": "job", "min_users": 2}, {"name": "zip", "prefix": 1}, cross]
    spec = _spec(tmp_path, *features, {"name": "age", "kind": "numeric", "transform": "log"})
    names = ("user_id", "segment", "history", "target", "birth", "job", "zip")
    fields = {name: tf.io.VarLenFeature(tf.string) for name in names}
    fields["age"] = tf.io.VarLenFeature(tf.float32)
    times = ("history_time", "target_time")
    fields |= {name: tf.io.VarLenFeature(tf.int64) for name in times}
    schema = schema_utils.schema_from_feature_spec(fields)
    users = [("1990-05-17", "cook", "91", 7.0), (None, "cook", "92", None), ("", "nurse", None, -5)]
    rows = [
        {
            **{name: ["x"] for name in names[:4]},
            **{name: [1] for name in times},
            **{
                name: [value] if value else []
                for name, value in zip(("birth", "job", "zip", "age"), user, strict=True)
            },
        }
        for user in users
    ]
    settings = preprocessing.custom_config(spec, "digest")
    assert json.loads(settings["least"]) == {"job": 2}
    with tft_beam.Context(temp_dir=str(tmp_path / "tft")):
        (data, _), _ = (rows, dataset_metadata.DatasetMetadata(schema)) | (
            tft_beam.AnalyzeAndTransformDataset(
                lambda inputs: preprocessing.preprocessing_fn(inputs, settings)
            )
        )
    columns = {name: [list(row[name]) for row in data] for name in ("birth", "job", "both", "age")}
    assert columns["birth"] == [[7441.0], [], []]
    # A nurse is rare, and has an unknown zip.
    assert columns["job"] == [[2], [2], [1]]
    assert columns["both"] == [[2], [2], []]
    assert columns["age"] == [[7.0], [], [-5.0]]

"""A value has one text, and so one id, in tables, Parquet, CSV, requests and the served graph."""

import csv
import datetime
import decimal

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from cmclrec_tf.config import DataConfig
from cmclrec_tf.data import text_forms, vocabulary
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.models import CMCLRec
from cmclrec_tf.schema import Feature
from pipeline.datasets import DatasetSpec
from pipeline.transforms.encode import to_example
from pipeline.transforms.split import assign_split
from pipeline.transforms.user_records import UserRecords
from serving.c_api.session import SavedModelSession
from serving.client.inputs import cold_inputs, padded
from serving.export.saved_model import export

# Values of Python, each with the Arrow array that holds it and its text in a CSV file.
VALUES = [
    ("tea", pa.array(["tea"]), "tea"),
    ("Grüner Tee, 1 l", pa.array(["Grüner Tee, 1 l"]), "Grüner Tee, 1 l"),
    (" spaced ", pa.array([" spaced "]), " spaced "),
    (b"\xff\x01", pa.array([b"\xff\x01"]), b"\xff\x01"),
    ("nan", pa.array(["nan"]), "nan"),
    (7, pa.array([7], pa.int8()), "7"),
    (np.int64(-7), pa.array([-7]), "-7"),
    (2**63, pa.array([2**63], pa.uint64()), "9223372036854775808"),
    (1.0, pa.array([1.0]), "1"),
    (np.float32(3.0), pa.array([3.0], pa.float32()), "3"),
    (-0.0, pa.array([-0.0]), "0"),
    (12345678901.0, pa.array([12345678901.0]), "12345678901"),
    (1e10, pa.array([1e10, 0.5])[:1], "10000000000"),
    (0.1, pa.array([0.1]), "0.1"),
    (np.float32(0.1), pa.array([0.1], pa.float32()), "0.1"),
    (1e-7, pa.array([1e-7]), "0.0000001"),
    (float("inf"), pa.array([float("inf")]), "inf"),
    (True, pa.array([True]), "true"),
    (np.False_, pa.array([False]), "false"),
    (decimal.Decimal("1.50"), pa.array([decimal.Decimal("1.50")]), "1.5"),
    (decimal.Decimal("3.00"), pa.array([decimal.Decimal("3.00")]), "3"),
    (None, pa.array([None], pa.string()), ""),
    (float("nan"), pa.array([float("nan")]), ""),
    (pd.NA, pa.array([None], pa.int64()), ""),
    (pd.NaT, pa.array([None], pa.timestamp("us")), ""),
    ("", pa.array([""]), ""),
]
NAMES = [f"value{i}" for i in range(len(VALUES))]
FEATURES = [Feature(name) for name in NAMES] + [Feature("tags", "multi")]
TEXTS = [text if isinstance(text, bytes) else text.encode() for _, _, text in VALUES]
LENGTH, K = 6, 4


def _spec(ending):
    columns = [{"name": name} for name in NAMES] + [{"name": "tags", "kind": "multi"}]
    return DatasetSpec.from_dict(
        {
            "name": "one-text",
            "interactions": {"file": f"log.{ending}", "user": "u", "item": "i", "time": "t"},
            "users": {"file": f"users.{ending}", "id": "u", "features": columns},
        }
    )


def _write(folder, ending):
    """Writes user 1.0, who has all values, and whose items are floats as pandas writes them."""
    items = [float(item) for item in range(LENGTH)]
    if ending == "parquet":
        users = {"u": pa.array([1.0]), **dict(zip(NAMES, (a for _, a, _ in VALUES), strict=True))}
        users["tags"] = pa.array([[3.0, None, float("nan"), 2.5]])
        pq.write_table(pa.table(users), folder / "users.parquet")
        log = {"u": [1.0] * LENGTH, "i": items, "t": range(LENGTH)}
        pq.write_table(pa.table(log), folder / "log.parquet")
        return
    with open(folder / "users.csv", "w", encoding="utf-8", errors="surrogateescape") as file:
        line = ["1", *map(vocabulary.decode, TEXTS), "3||2.5"]
        csv.writer(file, lineterminator="\n").writerows([["u", *NAMES, "tags"], line])
    rows = [f"1,{item:.0f},{time}" for time, item in enumerate(items)]
    (folder / "log.csv").write_text("\n".join(["u,i,t", *rows]) + "\n")


def _read(folder, ending):
    """Returns the raw record of the user, as the pipeline reads it."""
    _write(folder, ending)
    salts = (DataConfig(max_history=LENGTH, salt=str(salt)) for salt in range(100))
    data = next(data for data in salts if assign_split(b"1", data)[0] == "train")
    with beam.Pipeline(argv=["--runner=FnApiRunner"]) as pipeline:
        records = pipeline | UserRecords(_spec(ending), folder, data)
        for split, part in records.items():
            examples = part | f"Encode{split}" >> beam.Map(to_example, FEATURES)
            path = str(folder / f"{split}-{ending}")
            _ = examples | f"Write{split}" >> beam.io.WriteToTFRecord(path)
    files = [str(path) for split in records for path in folder.glob(f"{split}-{ending}*")]
    (serialized,) = tf.data.TFRecordDataset(sorted(files)).as_numpy_iterator()
    record = tf.train.Example.FromString(serialized).features.feature
    return {name: list(value.bytes_list.value) for name, value in record.items()}


@pytest.fixture(scope="module")
def tables(config, tmp_path_factory):
    """The dataset that `prepare_tables` makes of the same values, and its export."""
    folder = tmp_path_factory.mktemp("one-text")
    values = dict(zip(NAMES, (value for value, _, _ in VALUES), strict=True))
    tags = [np.float64(3), None, float("nan"), 2.5]
    items = [float(item) for item in range(LENGTH)]
    user = {"user_id": 1.0, "history": items[:-1], "target": items[-1:], "tags": tags, **values}
    # The values of the other user are as frequent, so ids are not those of the first user alone.
    other = {**dict.fromkeys(NAMES, "other"), "user_id": "2", "history": [99], "target": [98]}
    data = prepare_tables({"train": [user, other]}, FEATURES, folder / "data", max_history=8)
    model = CMCLRec(data.schema, config)
    model(next(iter(data.batches("train", 2))))
    changed = config.changed({"serve.list_length": K})
    return data, user, model, export(model, data, folder / "1", changed)


@pytest.mark.parametrize("ending", [pytest.param("parquet", marks=pytest.mark.slow), "csv"])
def test_the_pipeline_reads_the_text_of_the_tables(tables, tmp_path, ending):
    data, _, _, _ = tables
    record = _read(tmp_path, ending)
    assert record["user_id"] == [b"1"]
    assert record["history"] + record["target"] == [b"%d" % item for item in range(LENGTH)]
    assert record["tags"] == [b"3", b"2.5"]
    texts = [b"".join(record[name]) for name in NAMES]
    # The pipeline leaves spaces in the record and strips them in the graph.
    assert [text.strip() for text in texts] == [text.strip() for text in TEXTS]
    for name, text in zip(NAMES, texts, strict=True):
        tokens = {vocabulary.encode(token) for token in vocabulary.read(data.vocabularies[name])}
        assert tokens == {b"other", text.strip()} - {b""}


def test_the_client_and_the_graph_read_the_ids_of_the_tables(tables):
    data, user, model, folder = tables
    batch = next(iter(data.batches("train", 2, shuffle=False)))
    ids = [batch["features"][name].numpy()[0, 0] for name in NAMES]
    assert [bool(i > 1) for i in ids] == [bool(text.strip()) for text in TEXTS]
    features = {name: user[name] for name in (*NAMES, "tags")}
    inputs = cold_inputs([features], {feature.name: feature.kind for feature in FEATURES})
    assert [inputs[name][0] for name in NAMES] == TEXTS
    assert inputs["tags"].tolist() == [[b"3", b"2.5"]]
    history = padded([user["history"]], "history")
    assert history.tolist() == [[b"%d" % item for item in range(LENGTH - 1)]]
    no_exclude = padded(None, "exclude", 1)
    expected = {
        "cold": model.score(model.cold_states(batch["features"])),
        "warm": model.score(model.warm_states(batch["history"])),
    }
    with SavedModelSession(folder) as session:
        answers = {
            "cold": session.run("cold", {**inputs, "exclude": no_exclude}),
            "warm": session.run("warm", {"history": history, "exclude": no_exclude}),
        }
    items = vocabulary.read(data.vocabularies["items"])
    for name, answer in answers.items():
        ids = [2 + items.index(item.decode()) for item in answer["item_ids"][0] if item]
        scores = np.asarray(expected[name])[0, ids]
        np.testing.assert_allclose(answer["scores"][0][: len(ids)], scores, rtol=1e-4, atol=1e-5)


def test_times_are_no_text_outside_of_the_time_column():
    with pytest.raises(ValueError, match="it must be text or a number"):
        text_forms.to_bytes(datetime.datetime(2025, 8, 24), "a column")

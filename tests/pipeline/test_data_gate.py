"""Faults planted into the data stop a run or are only reported, with TFDV's real anomalies."""

import numpy as np
import pyarrow as pa
import pytest

pytestmark = pytest.mark.pipeline

N = 40


def _split(segment="warm", n=N):
    """Returns the columns of a split's user records: for each record a list of values."""
    users = range(n)
    warm = segment == "warm"
    return {
        "user_id": [[f"{segment}{user}"] for user in users],
        "segment": [[segment] for _ in users],
        "history": [["i1", "i2"] if warm else [] for _ in users],
        "history_time": [[3, 4] if warm else [] for _ in users],
        "target": [["i3"] for _ in users],
        "target_time": [[5] for _ in users],
        "age": [[20.0 + user] for user in users],
        "job": [[("cook", "nurse")[user % 2]] for user in users],
        "tags": [["a", "b"][: user % 3] for user in users],
    }


KINDS = {int: pa.int64(), float: pa.float32(), str: pa.binary()}


def _statistics(columns):
    from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
    from tensorflow_data_validation.statistics.stats_options import StatsOptions

    arrays = []
    for values in columns.values():
        kind = next((type(value) for each in values for value in each or ()), str)
        arrays.append(pa.array(values, pa.large_list(KINDS[kind])))
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    return generate_statistics_in_memory(batch, StatsOptions())


def _judge(**splits):
    """Judges clean train, val and test splits, of which `splits` replaces some."""
    import tensorflow_data_validation as tfdv

    from pipeline.components.anomalies import judge

    clean = {"train": _split(), "val": _split(n=N // 2), "test": _split("cold", N // 2)}
    statistics = {name: _statistics(columns) for name, columns in {**clean, **splits}.items()}
    schema = tfdv.infer_schema(statistics["train"], infer_feature_shape=False)
    validated = {s: tfdv.validate_statistics(statistics[s], schema) for s in ("train", "val")}
    return judge({name: each.datasets[0] for name, each in statistics.items()}, validated)


def _texts(findings):
    return [str(finding) for finding in findings]


def test_clean_data_pass():
    blocking, reports = _judge()
    assert not blocking, _texts(blocking)
    # TFDV takes user ids for values of a closed set, so those in val are new to it.
    assert {finding.feature for finding in reports} <= {"user_id"}


def test_new_values_in_val_are_reported_but_not_quoted():
    changed = _split()
    changed["job"][3] = ["astronaut"]
    changed["tags"][0] = ["a", "b", "c"]
    blocking, reports = _judge(val=changed)
    assert not blocking, _texts(blocking)
    (report,) = [finding for finding in reports if finding.feature == "job"]
    assert "ENUM_TYPE_UNEXPECTED_STRING_VALUES" in str(report) and "split 'val'" in str(report)
    assert "astronaut" not in " ".join(_texts(reports))


def _without(name):
    return {key: values for key, values in _split().items() if key != name}


def _with(name, user, value):
    columns = _split()
    columns[name][user] = value
    return columns


PLANTED = {
    "nan": (_with("age", 3, [float("nan")]), "age", "1 are NaN"),
    "inf": (_with("age", 3, [float("-inf")]), "age", "must be finite"),
    "gone": (_without("job"), "job", "is in none"),
    "rarer": (_with("job", 5, None), "job", f"is in {N - 1} of {N}"),
    "type": ({**_split(), "age": [["old"]] * N}, "age", "is float, and here it is string"),
    "number": ({**_split(), "job": [[1.5]] * N}, "job", "is string, and here it is float"),
    "no values": ({**_split(), "job": [[]] * N}, "job", "none has"),
    "no lists": ({**_split(), "tags": [[]] * N}, "tags", "none has"),
    "no target": (_with("target", 7, []), "target", "has none in some"),
    "no records": (_split(n=0), "", "at least one record"),
}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_fault_blocks_and_is_named(split, planted):
    columns, feature, rule = PLANTED[planted]
    blocking, _ = _judge(**{split: columns})
    (finding,) = blocking
    assert (finding.split, finding.feature) == (split, feature)
    assert rule in str(finding) and finding.fix


def test_a_nan_in_train_blocks():
    blocking, _ = _judge(train=_with("age", 3, [float("nan")]))
    assert [(finding.split, finding.feature) for finding in blocking] == [("train", "age")]


def test_a_missing_split_blocks():
    from pipeline.components.anomalies import judge

    train = _statistics(_split()).datasets[0]
    blocking, _ = judge({"train": train}, {})
    assert [finding.split for finding in blocking] == ["val", "test"]


def test_values_missing_by_chance_pass():
    """A rare value, or one that the only val user lacks, does not mean that data are lost."""
    rare = {**_split(), "job": [["cook"]] * 2 + [[]] * (N - 2)}
    for train, val in ((rare, {**_split(), "job": [[]] * N}), (_split(), _with("job", 0, []))):
        few = {name: values[:1] for name, values in val.items()}
        blocking, _ = _judge(train=train, val=val if train is rare else few)
        assert not blocking, _texts(blocking)


def test_an_anomaly_that_statistics_do_not_show_blocks():
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from pipeline.components.anomalies import judge

    clean = {name: _statistics(_split()).datasets[0] for name in ("train", "val", "test")}
    anomalies = anomalies_pb2.Anomalies()
    for name, kind in (("job", "SCHEMA_MISSING_COLUMN"), ("tags", "SCHEMA_NEW_COLUMN")):
        anomalies.anomaly_info[name].description = "secret"
        anomalies.anomaly_info[name].reason.add(type=kind)
    blocking, reports = judge(clean, {"val": anomalies})
    assert [finding.feature for finding in blocking] == ["job"]
    assert [finding.feature for finding in reports] == ["tags"]
    assert "secret" not in " ".join(_texts(blocking + reports))


def test_large_numbers_pass():
    columns = {**_split(), "age": [[float(np.finfo(np.float32).max)]] * N}
    blocking, _ = _judge(train=columns, val=columns, test=columns)
    assert not blocking, _texts(blocking)

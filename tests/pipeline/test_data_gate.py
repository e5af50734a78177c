"""What of the data stops a run, and what is only told: TFDV's own verdicts on planted faults."""

import numpy as np
import pyarrow as pa
import pytest

pytestmark = pytest.mark.pipeline

N = 40


def _split(segment="warm", n=N):
    """The columns of a split's user records, each a list of values a record."""
    users = range(n)
    warm = segment == "warm"
    return {
        "user_id": [[f"{segment}{user}"] for user in users],
        "segment": [[segment] for _ in users],
        "history": [["i1", "i2"] if warm else [] for _ in users],
        "history_time": [[3, 4] if warm else [] for _ in users],
        "target": [["i3"] for _ in users],
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
    """The verdict on a clean train, val and test split, with those of `splits` in their place."""
    import tensorflow_data_validation as tfdv

    from pipeline.components.anomalies import judge

    clean = {"train": _split(), "val": _split(n=N // 2), "test": _split("cold", N // 2)}
    found = {name: _statistics(columns) for name, columns in {**clean, **splits}.items()}
    schema = tfdv.infer_schema(found["train"], infer_feature_shape=False)
    validated = {s: tfdv.validate_statistics(found[s], schema) for s in ("train", "val")}
    return judge({name: each.datasets[0] for name, each in found.items()}, validated)


def _told(findings):
    return [str(finding) for finding in findings]


def test_clean_data_pass():
    blocking, reports = _judge()
    assert not blocking, _told(blocking)
    # Ids that are new in val, which TFDV takes for values of a closed set.
    assert {finding.feature for finding in reports} <= {"user_id"}


def test_new_values_in_val_are_told_without_them():
    changed = _split()
    changed["job"][3] = ["astronaut"]
    changed["tags"][0] = ["a", "b", "c"]
    blocking, reports = _judge(val=changed)
    assert not blocking, _told(blocking)
    (told,) = [finding for finding in reports if finding.feature == "job"]
    assert "ENUM_TYPE_UNEXPECTED_STRING_VALUES" in str(told) and "split 'val'" in str(told)
    assert "astronaut" not in " ".join(_told(reports))


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
    (found,) = blocking
    assert (found.split, found.feature) == (split, feature)
    assert rule in str(found) and found.mend


def test_a_nan_in_train_blocks():
    blocking, _ = _judge(train=_with("age", 3, [float("nan")]))
    assert [(found.split, found.feature) for found in blocking] == [("train", "age")]


def test_a_split_that_is_not_there_blocks():
    from pipeline.components.anomalies import judge

    train = _statistics(_split()).datasets[0]
    blocking, _ = judge({"train": train}, {})
    assert [found.split for found in blocking] == ["val", "test"]


def test_no_values_by_chance_pass():
    """Neither a rare value, nor one that the only val user lacks, says that data are lost."""
    rare = {**_split(), "job": [["cook"]] * 2 + [[]] * (N - 2)}
    for train, val in ((rare, {**_split(), "job": [[]] * N}), (_split(), _with("job", 0, []))):
        few = {name: values[:1] for name, values in val.items()}
        blocking, _ = _judge(train=train, val=val if train is rare else few)
        assert not blocking, _told(blocking)


def test_an_anomaly_that_statistics_do_not_show_blocks():
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from pipeline.components.anomalies import judge

    clean = {name: _statistics(_split()).datasets[0] for name in ("train", "val", "test")}
    found = anomalies_pb2.Anomalies()
    for name, kind in (("job", "SCHEMA_MISSING_COLUMN"), ("tags", "SCHEMA_NEW_COLUMN")):
        found.anomaly_info[name].description = "secret"
        found.anomaly_info[name].reason.add(type=kind)
    blocking, reports = judge(clean, {"val": found})
    assert [finding.feature for finding in blocking] == ["job"]
    assert [finding.feature for finding in reports] == ["tags"]
    assert "secret" not in " ".join(_told(blocking + reports))


def test_means_are_of_finite_numbers():
    """Large numbers alone are no fault."""
    columns = {**_split(), "age": [[float(np.finfo(np.float32).max)]] * N}
    blocking, _ = _judge(train=columns, val=columns, test=columns)
    assert not blocking, _told(blocking)

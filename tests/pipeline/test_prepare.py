"""From raw files to a prepared dataset, in one run that all tests here share."""

import dataclasses
import statistics
import types

import pytest

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.errors import InputError
from tests.pipeline.toy_datasets import write_clusters

pytestmark = pytest.mark.pipeline

CONFIG = Config(data=DataConfig(max_history=6))
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Clusters, plus one item per user that no other user has; four zips get an id.

    Ages become ranks; users also have a date, and a cross of job and zip.
    """
    folder = tmp_path_factory.mktemp("prepare")
    spec = write_clusters(folder / "raw", n_users=150)
    text = spec.read_text()
    assert text.count("prefix: 1\n") == 1
    text = text.replace("kind: numeric\n", "kind: numeric\n    transform: quantile\n")
    date = "{name: since, kind: date, as_of: 2024-04-30, time_format: '%d.%m.%Y'}"
    cross = "{name: both, kind: cross, of: [job, zip], min_users: 3}"
    spec.write_text(
        text.replace("prefix: 1\n", f"prefix: 1\n    most_values: 4\n  - {date}\n  - {cross}\n")
    )
    users = folder / "raw" / "users.csv"
    header, *rows = users.read_text().splitlines()
    dated = [f"{row},{1 + number % 28:02}.02.2020" for number, row in enumerate(rows)]
    users.write_text("\n".join([f"{header},since", *dated]))
    with open(folder / "raw" / "interactions.csv", "a") as file:
        file.writelines(f"u{user},secret-u{user},5000\n" for user in range(150))
    return types.SimpleNamespace(
        spec=spec, raw=folder / "raw", root=folder / "var", out=folder / "out" / "clusters"
    )


def _prepare(setting, out=None, config=CONFIG):
    from pipeline.commands.prepare import prepare

    return prepare(setting.spec, out or setting.out, config, setting.raw, root=setting.root)


@pytest.fixture(scope="module")
def prepared(setting):
    return _prepare(setting)


def _records(files):
    import tensorflow as tf

    found = tf.data.TFRecordDataset(list(files), compression_type="GZIP").as_numpy_iterator()
    for serialized in found:
        fields = tf.train.Example.FromString(serialized).features.feature
        yield {
            name: list(getattr(field, field.WhichOneof("kind")).value)
            if field.WhichOneof("kind")
            else []
            for name, field in fields.items()
        }


@pytest.fixture(scope="module")
def raw(setting, prepared):
    """`{user id: raw user record}` of all splits."""
    paths = setting.root.rglob("ExampleGen/examples/*/Split-*/*.gz")
    return {record["user_id"][0]: record for record in _records(map(str, paths))}


@pytest.fixture(scope="module")
def transformed(prepared):
    """`{split: {user id: transformed user record}}`."""
    return {
        split: {
            record["user_id"][0]: record
            for record in _records(map(str, (prepared.folder / split).glob("*.gz")))
        }
        for split in SPLITS
    }


def _vocabulary(prepared, name):
    return (prepared.folder / "vocabularies" / name).read_bytes().split(b"\n")[:-1]


def test_the_folder_is_whole(prepared, setting):
    found = sorted(path.name for path in prepared.folder.iterdir())
    expected = ["dataset.yaml", "schema.pbtxt", "test", "train", "transform_graph", "val"]
    assert found == [*expected, "vocabularies"]
    names = sorted(path.name for path in (prepared.folder / "vocabularies").iterdir())
    assert names == ["both", "hobbies", "items", "job", "zip"]
    assert [path.name for path in prepared.folder.parent.iterdir()] == ["clusters"]
    assert prepared.data_dir == setting.raw


def test_the_dataset_loads(prepared, transformed):
    from cmclrec_tf.data.prepared import PreparedDataset

    dataset = PreparedDataset.load(prepared.folder)
    assert dataset.users == {split: len(users) for split, users in transformed.items()}
    assert sum(dataset.users.values()) == 150
    assert dataset.max_history == 6
    assert dataset.schema.items == len(_vocabulary(prepared, "items")) + 2
    age = dataset.schema.features[0]
    ages = [value for user in transformed["train"].values() for value in user["age"]]
    assert age.quantiles[50] == pytest.approx(statistics.median(ages), rel=1e-6)


def test_vocabularies_are_of_the_train_split(prepared, raw, transformed):
    train = [raw[user] for user in transformed["train"]]
    raws = {
        "items": [v for user in train for v in user["history"] + user["target"]],
        "job": [v for user in train for v in user["job"]],
        "hobbies": [v for user in train for v in user["hobbies"]],
        "zip": [v[:1] for user in train for v in user["zip"]],
    }
    for name, values in raws.items():
        tokens = _vocabulary(prepared, name)
        counts = [values.count(token) for token in tokens]
        assert counts == sorted(counts, reverse=True), name
        others = set(values) - set(tokens)
        assert len(tokens) + len(others) == len(set(values)), name
        if name == "zip":
            assert len(tokens) == 4 and others
            assert max(values.count(other) for other in others) <= counts[-1]
        else:
            assert not others, name


def test_ids_stand_for_the_raw_values(prepared, raw, transformed):
    tokens = {name: _vocabulary(prepared, name) for name in ("items", "job", "hobbies", "zip")}

    def ids(name, values):
        known = tokens[name]
        return [known.index(value) + 2 if value in known else 1 for value in values]

    for users in transformed.values():
        for user_id, user in users.items():
            record = raw[user_id]
            assert user["segment"] == record["segment"]
            assert user["history"] == ids("items", record["history"])
            assert user["target"] == ids("items", record["target"])
            assert user["age"] == record["age"]
            assert user["job"] == ids("job", record["job"])
            assert user["hobbies"] == ids("hobbies", record["hobbies"])
            assert user["zip"] == ids("zip", [value[:1] for value in record["zip"]])
    assert any(not user["age"] for user in transformed["train"].values())


def test_dates_become_days_and_the_model_has_their_statistics(prepared, raw, transformed):
    from cmclrec_tf.data import dates
    from cmclrec_tf.data.prepared import PreparedDataset

    for users in transformed.values():
        for user_id, user in users.items():
            (text,) = raw[user_id]["since"]
            assert text.startswith(b"2020-02-") and user["since"] == [dates.days_of(text.decode())]
    age, *_, since, both = PreparedDataset.load(prepared.folder).schema.features
    assert (age.transform, len(age.quantiles)) == ("quantile", 101)
    assert age.mean == pytest.approx(0.5, abs=0.02)
    assert since.mean == pytest.approx(4.2, abs=0.02) and since.scale < 0.03
    assert both.of == ("job", "zip")


def test_a_cross_holds_frequent_pairs_of_the_train_split(prepared, raw, transformed):
    """It is made of the parts after `prefix`, and no field of a raw record."""
    pairs = [
        user["job"][0] + b"\x1f" + user["zip"][0][:1]
        for user in (raw[user_id] for user_id in transformed["train"])
    ]
    tokens = _vocabulary(prepared, "both")
    assert sorted(tokens) == sorted({pair for pair in pairs if pairs.count(pair) >= 3})
    for user_id, pair in zip(transformed["train"], pairs, strict=True):
        expected = tokens.index(pair) + 2 if pair in tokens else 1
        assert transformed["train"][user_id]["both"] == [expected]
    assert all("both" not in record for record in raw.values())


def test_removed_histories_are_gone(prepared, transformed):
    """The item that only a test user has is unknown: its target is OOV, no vocabulary has it."""
    known = set(_vocabulary(prepared, "items"))
    assert all(b"secret-" + user in known for user in transformed["train"])
    for split in ("val", "test"):
        assert not {b"secret-" + user for user in transformed[split]} & known
        assert all(user["target"] == [1] for user in transformed[split].values())
    cold = [user for user in transformed["test"].values() if user["segment"] == [b"cold"]]
    assert len(cold) == prepared.counts["users_test_cold"] > 5
    assert all(user["history"] == [] for user in cold)


def test_cold_records_are_no_anomaly(prepared, setting):
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    paths = list(setting.root.rglob("ExampleValidator/anomalies/*/Split-*/SchemaDiff.pb"))
    assert sorted(path.parent.name for path in paths) == ["Split-train", "Split-val"]
    new_value = anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES
    for path in paths:
        found = anomalies_pb2.Anomalies.FromString(path.read_bytes())
        # With few users TFDV infers that the ids are a closed set, and reports new ones in val.
        reasons = {r.type for info in found.anomaly_info.values() for r in info.reason}
        assert reasons <= ({new_value} if path.parent.name == "Split-val" else set())


def test_a_repeated_run_is_cached_and_replaces_the_dataset(prepared, setting, capsys):
    before = (prepared.folder / "vocabularies" / "items").read_bytes()
    (prepared.folder / "vocabularies" / "items").write_text("damaged\n")
    _prepare(setting)
    shown = capsys.readouterr().err
    assert shown.count("(cached)") == 6
    assert (prepared.folder / "vocabularies" / "items").read_bytes() == before
    assert [path.name for path in prepared.folder.parent.iterdir()] == ["clusters"]


def test_a_folder_of_something_else_is_kept(prepared, setting, tmp_path):
    (tmp_path / "thesis.tex").write_text("the only copy")
    with pytest.raises(InputError, match="is not a prepared dataset"):
        _prepare(setting, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "the only copy"


def test_bad_input_leaves_the_older_dataset(prepared, setting):
    nobody = dataclasses.replace(CONFIG, data=DataConfig(min_events=99))
    with pytest.raises(InputError, match="Lower data.min_events"):
        _prepare(setting, config=nobody)
    assert (prepared.folder / "dataset.yaml").is_file()
    assert [path.name for path in prepared.folder.parent.iterdir()] == ["clusters"]


def test_bad_data_stop_the_run_before_transform_until_they_are_fixed(
    prepared, setting, monkeypatch, capsys
):
    """The data half again, with a NaN planted into what the gate reads."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from pipeline.metadata import code_digests, integrity

    # Else the planted file would be set aside, as its size has changed.
    monkeypatch.setattr(integrity, "set_aside", lambda *_: [])
    # Another digest of its code, so that the gate does not come from the cache.
    monkeypatch.setattr(code_digests, "GATE", ())
    (path,) = setting.root.rglob("StatisticsGen/statistics/*/Split-val/FeatureStats.pb")
    clean = path.read_bytes()
    planted = statistics_pb2.DatasetFeatureStatisticsList.FromString(clean)
    (age,) = [f for f in planted.datasets[0].features if list(f.path.step) == ["age"]]
    age.num_stats.histograms[0].num_nan = 1
    path.write_bytes(planted.SerializeToString())
    try:
        for _ in range(2):  # a gate that failed is not cached
            with pytest.raises(InputError, match="^split 'val', feature 'age': .* 1 are NaN. Che"):
                _prepare(setting)
            shown = capsys.readouterr().err
            assert "DataGate ... failed" in shown and "Transform" not in shown
    finally:
        path.write_bytes(clean)
    assert (prepared.folder / "dataset.yaml").is_file()
    _prepare(setting)
    shown = capsys.readouterr().err
    assert shown.count("(cached)") == 5 and shown.index("DataGate") < shown.index("Transform")
    reports = list(setting.root.rglob("DataGate/report/*/REPORT.txt"))
    assert len(reports) == 2 and all(report.read_text() for report in reports)

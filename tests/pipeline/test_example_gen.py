"""ExampleGen: the users that it needs, its cache key, and its errors."""

import dataclasses
import json
import os
import types

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components import rejects
from pipeline.components.population import (
    check_population,
    summary,
    user_counts,
    users_by_split,
)
from pipeline.datasets import check, load_spec
from tests.pipeline.toy_datasets import TWELVE_SALT, write_clusters, write_twelve

COUNTS = {
    "events": 100,
    "users_with_few_events": 3,
    "users_train_warm": 8,
    "users_val_warm": 2,
    "users_test_warm": 1,
    "users_test_cold": 1,
    "valued_age": 4,
    "valued_job": 1,
    "valued_tags": 8,
}


@pytest.fixture
def twelve(tmp_path):
    return load_spec(write_twelve(tmp_path))


def test_a_sufficient_population_passes(twelve):
    check_population(COUNTS, twelve, DataConfig())
    assert users_by_split(COUNTS) == {"train": 8, "val": 2, "test": 2}


def test_the_summary_counts_all_users():
    counts = {**COUNTS, "users_without_events": 4, "users_without_features": 5, "users_repeated": 6}
    assert summary(counts) == (
        "8 train (warm), 2 val (warm), 1 test (warm), 1 test (cold) users; dropped 3 with too few "
        "events and 4 without any; 5 kept without user features, 6 listed more than once"
    )


def test_without_users_the_error_gives_the_counts_and_the_fix(twelve):
    with pytest.raises(InputError) as error:
        check_population({"events": 9, "users_with_few_events": 7}, twelve, DataConfig())
    text = str(error.value)
    assert "7 users with 9 events" in text and "min_events=5" in text
    assert text.endswith("Lower data.min_events or give more events.")


def test_malformed_rows_come_before_missing_users(twelve, tmp_path):
    (tmp_path / "log.csv").write_text("user\n\na\nb\n")
    kind, rare = ("interactions", "column 'time' must be an integer"), ("users", "rare")
    lines = [
        {"table": table, "rule": rule, "place": f"byte {at} of {tmp_path / 'log.csv'}"}
        for (table, rule), at in ((rare, 5), (kind, 10), (kind, 8))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    malformed = rejects.summarize(str(tmp_path))
    counts = {"rows_rejected": 3, "users_without_events": 4}
    with pytest.raises(InputError) as error:
        check_population(counts, twelve, DataConfig(), malformed)
    fault = f"2 rows of interactions: {kind[1]}, for example row 4 of {tmp_path / 'log.csv'}"
    assert str(error.value).startswith("3 malformed rows: at most max_rejects=0 may be left out")
    assert fault in str(error.value) and str(tmp_path) in error.value.fix
    # As many as are allowed are still the reason.
    allowed = dataclasses.replace(twelve, max_rejects=3)
    with pytest.raises(InputError) as error:
        check_population(counts, allowed, DataConfig(), malformed)
    message = str(error.value)
    assert message.startswith("0 events in log.inter; rows left out: 3 malformed: a log must have")
    assert fault in message and "min_events" not in message
    assert malformed.report() == [f"interactions: 2 rows: {kind[1]}", "users: 1 rows: rare"]
    check_population(COUNTS, twelve, DataConfig(), malformed)


def test_a_log_without_events_is_named(twelve):
    with pytest.raises(InputError, match="0 events .*: 9 are no events by .* interactions.keep"):
        check_population({"rows_not_kept": 9}, twelve, DataConfig())


@pytest.mark.parametrize(
    ("counter", "message"),
    [
        ("users_train_warm", "'train' needs at least one warm user"),
        ("users_val_warm", "'val' needs at least one warm user"),
        ("users_test_warm", "'test' needs at least one warm user"),
        ("users_test_cold", "'test' needs at least one cold user"),
        ("valued_job", "user feature 'job'"),
    ],
)
def test_an_empty_part_is_named(twelve, counter, message):
    with pytest.raises(InputError, match=message):
        check_population({**COUNTS, counter: 0}, twelve, DataConfig())


@pytest.fixture
def component(tmp_path):
    """A function that runs ExampleGen alone; returns its counts, its artifact, and more."""
    from tfx.orchestration import metadata, pipeline

    from pipeline.components.example_gen import COMPONENT, example_gen
    from pipeline.metadata.outputs import Outputs
    from pipeline.runners import local

    def run(spec, data_dir, data):
        folders = configs.Folders(tmp_path / "var", spec.name)
        log = local.run(
            pipeline.Pipeline(
                pipeline_name=folders.pipeline_name,
                pipeline_root=str(folders.pipeline),
                components=[example_gen(spec, data_dir, data)],
                enable_cache=True,
                metadata_connection_config=metadata.sqlite_metadata_connection_config(
                    str(folders.metadata)
                ),
            )
        )
        outputs = Outputs(folders.metadata, folders.pipeline_name)
        examples = outputs.artifact(COMPONENT, "examples")
        return types.SimpleNamespace(
            cached=outputs.was_cached(COMPONENT),
            counts=user_counts(examples),
            examples=examples,
            log=log,
        )

    return run


def _read(examples, split):
    import tensorflow as tf

    paths = tf.io.gfile.glob(os.path.join(examples.uri, f"Split-{split}", "*"))
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP")
    return [tf.train.Example.FromString(r).features.feature for r in records.as_numpy_iterator()]


@pytest.mark.pipeline
def test_records_are_written_by_split(component, tmp_path):
    spec = load_spec(write_twelve(tmp_path / "raw"))
    result = component(spec, tmp_path / "raw", DataConfig(min_events=2, salt=TWELVE_SALT))
    assert not result.cached
    assert result.counts["events"] == 12 and result.counts["users_without_features"] == 1
    users = {
        split: {
            record["user_id"].bytes_list.value[0]: record["segment"].bytes_list.value[0]
            for record in _read(result.examples, split)
        }
        for split in ("train", "val", "test")
    }
    assert users == {
        "train": {b"ann": b"warm"},
        "val": {b"fay": b"warm"},
        "test": {b"cat": b"warm", b"bob": b"cold"},
    }
    message = (
        "1 train (warm), 1 val (warm), 1 test (warm), 1 test (cold) users; dropped 1 with too few"
    )
    assert message in result.log.read_text()


@pytest.mark.pipeline
def test_the_cache_key_covers_files_spec_and_config(component, tmp_path, capsys):
    spec_path = write_clusters(tmp_path / "raw")
    spec, data = load_spec(spec_path), DataConfig()
    assert not component(spec, tmp_path / "raw", data).cached
    assert component(spec, tmp_path / "raw", data).cached
    assert "[1/1] ExampleGen ... " in (output := capsys.readouterr().err) and "(cached)" in output
    (tmp_path / "raw" / "notes.txt").write_text("a file that the spec does not name")
    assert component(spec, tmp_path / "raw", data).cached
    salted = component(spec, tmp_path / "raw", dataclasses.replace(data, salt="1"))
    assert not salted.cached
    fewer = dataclasses.replace(spec.users, features=spec.users.features[:2])
    assert not component(dataclasses.replace(spec, users=fewer), tmp_path / "raw", data).cached
    with open(tmp_path / "raw" / "interactions.csv", "a") as file:
        file.write("u0,it1,99999\n")
    assert not component(spec, tmp_path / "raw", data).cached


@pytest.mark.slow
@pytest.mark.pipeline
def test_names_that_look_like_patterns(component, tmp_path):
    raw = tmp_path / "raw [1] {a,b}*?"
    spec = load_spec(write_twelve(raw))
    log = "log{SPAN} [*]?.inter"
    (raw / "log.inter").rename(raw / log)
    interactions = dataclasses.replace(spec.interactions, file=log)
    spec = dataclasses.replace(spec, interactions=interactions)
    data = DataConfig(min_events=2, salt=TWELVE_SALT)
    assert component(spec, raw, data).counts["events"] == 12
    assert component(spec, raw, data).cached
    with open(raw / log, "a") as file:
        file.write("ann\ti1\t4\t99\n")
    grown = component(spec, raw, data)
    assert not grown.cached and grown.counts["events"] == 13
    # A file of the same size, but newer.
    users = (raw / "users.csv").read_text()
    (raw / "users.csv").write_text(users.replace("23.5", "24.5"))
    assert not component(spec, raw, data).cached


@pytest.mark.pipeline
def test_bad_input_becomes_an_error_of_one_line(component, tmp_path):
    spec = load_spec(write_twelve(tmp_path / "raw"))
    with pytest.raises(InputError, match="nobody is left. Lower data.min_events"):
        component(spec, tmp_path / "raw", DataConfig(min_events=50))
    with open(tmp_path / "raw" / "log.inter", "a") as file:
        file.write("ann\ti1\t4\tnoon\n")
    with pytest.raises(InputError) as error:
        component(spec, tmp_path / "raw", DataConfig(min_events=2, salt=TWELVE_SALT))
    rule = "column 'time' must be an integer. Correct or remove the row. If it holds dates, set"
    assert str(error.value).startswith(f"row 14 of {tmp_path / 'raw' / 'log.inter'}: {rule}")
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert not list((tmp_path / "var").rglob("*.gz"))


@pytest.mark.pipeline
def test_other_failures_are_not_disguised(component, tmp_path):
    spec = load_spec(write_twelve(tmp_path / "raw"))
    check(spec, tmp_path / "raw")
    folder = configs.Folders(tmp_path / "var", spec.name).pipeline
    folder.mkdir(parents=True)
    (folder / "ExampleGen").write_text("in the way")
    with pytest.raises(Exception, match="ExampleGen") as error:
        component(spec, tmp_path / "raw", DataConfig(min_events=2, salt=TWELVE_SALT))
    assert not isinstance(error.value, InputError)

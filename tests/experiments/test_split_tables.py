"""The tables of other splits than users, and of other targets."""

import csv

import pyarrow.parquet as pq
import pytest
import yaml

from tests.experiments.toy import prepare, prepare_runs, table_output

RUNS = 2


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return prepare_runs(tmp_path_factory.mktemp("splits"), RUNS)


def test_a_dataset_of_last_targets_has_one_column_of_cold_users(setting, tmp_path):
    """Both columns would show the same numbers under different names."""
    for run in range(RUNS):
        prepare(tmp_path / f"last{run}", run, target="last")
    where = ("--prepared", str(tmp_path / "last{run}"), "--out", str(tmp_path / "out"))
    text = table_output(setting, RUNS, *where, "--models", "random,popularity")
    assert "data.target=last" in text and "| cold last NDCG@20 |" in text
    with open(tmp_path / "out" / "quality.csv", newline="") as file:
        labels = {line[1] for line in csv.reader(file)}
    assert "cold last" in labels and "cold all" not in labels and "cold all" not in text


@pytest.mark.slow
def test_a_split_by_time_has_its_own_table(setting, tmp_path):
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    data = {"max_history": 6, "split": "time", "split_time": "2022-05-01"}
    config.write_text(yaml.safe_dump({"data": data}))
    arguments = ("--config", config, "--out", out, "--models", "random,popularity")
    text = table_output(setting, RUNS, *map(str, arguments), "--against", "random")
    assert "# toy-time-2022-05-01:" in text and "before a time T" in text
    assert "| cold first NDCG@20 |" in text and "cold last" not in text
    table_output(setting, RUNS, "--out", str(tmp_path / "users"), "--models", "random,popularity")
    for folder, has_keys in ((out, True), (tmp_path / "users", False)):
        table = pq.read_table(folder / "run0" / "random" / "users.parquet")
        assert ("user" in table.column_names) == has_keys
        assert not has_keys or table["user"].to_pandas().is_unique


@pytest.mark.slow
def test_leave_one_out_has_its_own_table(setting, tmp_path):
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({"data": {"max_history": 6, "split": "leave-one-out"}}))
    arguments = ("--config", config, "--out", out, "--models", "random,popularity")
    text = table_output(setting, RUNS, *map(str, arguments))
    assert "# toy-leave-one-out" in text and "cold last" not in text
    values = {}
    with open(out / "quality.csv", newline="") as file:
        for model, segment, metric, run, value in csv.reader(file):
            values[model, segment, metric, run] = value
    for run in range(RUNS):
        table = pq.read_table(out / f"run{run}" / "popularity" / "users.parquet").to_pandas()
        hit = table["rank"].between(1, 10)[~table["is_cold"]].mean()
        assert float(values["popularity", "all users", "Recall@10", str(run)]) == pytest.approx(hit)

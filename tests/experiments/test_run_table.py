"""The table commands on synthetic data; the table is recomputed from the ranks of each user."""

import csv
import platform
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from cmclrec_tf.errors import InputError
from experiments import table_kinds
from experiments.simple_rows import PEERS
from experiments.table_rows import DEFAULT_ROWS
from tests.conftest import eagerly
from tests.experiments.toy import prepare_runs, table_output

pytestmark = pytest.mark.slow  # trains every row of a table, twice

# The two towers start a process of their own, see test_two_tower.py.
MODELS = tuple(name for name in DEFAULT_ROWS if name not in PEERS)
RUNS = 2


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return prepare_runs(tmp_path_factory.mktemp("quality"), RUNS)


def _table(folder, *more, table="quality"):
    """Returns the output of a table command; `more` are further arguments."""
    if table == "quality" and "--models" not in more:
        more = ("--models", ",".join(MODELS), *more)
    return table_output(folder, RUNS, *more, table=table)


@pytest.fixture(scope="module")
def output(setting):
    # The many short epochs of the MLP are faster as a graph, the few steps of other rows are not.
    _table(setting, "--models", "features-mlp,features-mlp-last,features-mlp-decayed")
    with eagerly():
        return _table(setting)


@pytest.fixture(scope="module")
def values(output, setting):
    """{(model, segment, metric, run, mean or std): value} of the CSV."""
    with open(setting / "out" / "quality.csv", newline="") as file:
        lines = list(csv.reader(file))
    return {tuple(line[:4]): float(line[4]) for line in lines[1:]}


def _per_user(setting, run, model):
    """Returns the users, hits and ranks of each segment, and the stored table."""
    table = pq.read_table(setting / "out" / f"run{run}" / model / "users.parquet").to_pandas()
    assert table["row"].tolist() == list(range(26)) and table["is_cold"].sum() == 14
    listed = table["rank"].between(1, 20)
    return {
        "warm": (~table["is_cold"], listed, table["rank"]),
        "cold last": (table["is_cold"], listed, table["rank"]),
        "overall": (table["is_cold"] | True, listed, table["rank"]),
    }, table


@pytest.mark.parametrize("model", MODELS)
def test_the_table_from_the_ranks(setting, values, model):
    for segment in ("warm", "cold last", "overall"):
        recalls, ndcgs = [], []
        for run in range(RUNS):
            rows, listed, rank = _per_user(setting, run, model)[0][segment]
            recalls.append(listed[rows].mean())
            ndcgs.append(np.where(listed, 1 / np.log2(1 + rank.clip(1)), 0)[rows].mean())
        for metric, expected in (("Recall@20", recalls), ("NDCG@20", ndcgs)):
            line = (model, segment, metric)
            assert [values[(*line, str(r))] for r in range(RUNS)] == pytest.approx(expected)
            assert values[(*line, "mean")] == pytest.approx(np.mean(expected))
            assert values[(*line, "std")] == pytest.approx(
                abs(expected[0] - expected[1]) / np.sqrt(2)
            )


def test_cold_users_on_all_removed_items(setting, values):
    """Recomputes the popularity list from the train events, and its recall of several items."""
    from cmclrec_tf.data.prepared import PreparedDataset

    for run in range(RUNS):
        dataset = PreparedDataset.load(setting / f"salt{run}")
        counts = np.zeros(dataset.schema.items)
        for batch in dataset.batches("train", 999, shuffle=False).as_numpy_iterator():
            for ids in (batch["history"], batch["target"]):
                np.add.at(counts, ids.ravel(), 1)
        counts[:2] = -1
        best = set(np.argsort(-counts, kind="stable")[:20])
        (batch,) = dataset.batches("test", 999).as_numpy_iterator()
        removed = [set(row[row > 0]) for row in batch["target"][batch["is_cold"]]]
        expected = np.mean([len(best & items) / len(items) for items in removed])
        assert values["popularity", "cold all", "Recall@20", str(run)] == pytest.approx(expected)
        _, table = _per_user(setting, run, "popularity")
        assert table["recall_all@20"][table["is_cold"]].mean() == pytest.approx(expected)


def test_the_printed_tables(output, values, setting):
    assert (setting / "out" / "quality.md").read_text() in output + "\n"
    for model in MODELS:
        mean, std = (values[model, "cold last", "NDCG@20", part] for part in ("mean", "std"))
        cell = f"{mean:.4f} ± {std:.4f}".replace("0.", ".")
        assert any(cell in line for line in output.splitlines() if line.startswith(f"| {model} "))
    others = [name for name in MODELS if name not in ("paper", "default")]
    means = {name: values[name, "warm", "NDCG@20", "mean"] for name in others}
    best = max(means, key=means.get)
    ratio = values["default", "warm", "NDCG@20", "mean"] / means[best]
    (line,) = (x for x in output.splitlines() if x.startswith("| default | warm NDCG@20"))
    assert [cell.strip() for cell in line.split("|")[3:5]] == [best, f"{ratio:.3f}"]
    lists = output.split("## Lists")[1].split("##")[0].splitlines()
    (popular,) = (line for line in lists if line.startswith("| popularity "))
    assert "| 20 ± 0.000 | 1.000 ± 0.000 |" in " ".join(popular.split())
    likelihoods = output.split("## Log-likelihood")[1].split("##")[0].splitlines()
    (row,) = (line for line in likelihoods if line.startswith("| random "))
    assert row.count("| - ") == 3
    mean = values["default", "cold last", "log-likelihood", "mean"]
    (row,) = (line for line in likelihoods if line.startswith("| default "))
    assert f"| {mean:.3f} ± " in row
    made = output.split("## Made by")[1]
    assert "cmclrec experiment quality --dataset toy --config " in made
    assert f"Salts and seeds 0 to {RUNS - 1}. python {platform.python_version()}" in made
    assert (setting / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_command_trains_only_missing_results(output, setting):
    stamps = {path: path.stat().st_mtime_ns for path in setting.rglob("metrics.json")}
    assert len(stamps) == RUNS * len(MODELS)
    again = _table(setting)
    assert again.count("there already") == len(stamps)
    assert again.split("# toy")[1].strip() == output.split("# toy")[1].strip()
    (lost,) = (path for path in stamps if path.parts[-3:-1] == ("run1", "popularity"))
    lost.write_text(lost.read_text().replace('"digest": "', '"digest": "other'))
    assert _table(setting).count("there already") == len(stamps) - 1
    changed = {path for path in stamps if path.stat().st_mtime_ns != stamps[path]}
    assert changed == {lost}


def test_the_stored_result_of_a_model(output, setting):
    stored = yaml.safe_load((setting / "out" / "run1" / "default" / "metrics.json").read_text())
    assert stored["settings"]["config"]["seed"] == 1
    assert stored["settings"]["config"]["data"]["salt"] == "1"
    assert stored["settings"]["config"]["model"]["width"] == 8
    assert set(stored["versions"]) == {"python", "tensorflow", "keras", "numpy", "cmclrec-tf"}
    assert stored["seconds"]["train"] > 0
    assert stored["segments"]["cold"]["users"] == 14
    _, table = _per_user(setting, 1, "default")
    mean = table["log_likelihood"][table["is_cold"]].mean()
    assert stored["segments"]["cold"]["log_likelihood"] == pytest.approx(mean)


def test_a_killed_training_resumes(setting, tmp_path, monkeypatch):
    arguments = ("--models", "sasrec", "--runs", "1")

    def killed(*_):
        raise KeyboardInterrupt

    with eagerly():
        _table(setting, "--out", str(tmp_path / "whole"), *arguments)
        with monkeypatch.context() as patch:
            patch.setattr("cmclrec_tf.evaluation.evaluate", killed)
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                _table(setting, "--out", str(tmp_path / "killed"), *arguments)
        monkeypatch.setattr("keras.Model.fit", killed)  # nothing is left to train
        output = _table(setting, "--out", str(tmp_path / "killed"), *arguments)
    whole, again = (
        yaml.safe_load((tmp_path / name / "run0" / "sasrec" / "metrics.json").read_text())
        for name in ("whole", "killed")
    )
    assert again["segments"] == whole["segments"]
    assert "| sasrec | >= " in output.split("## Budgets")[1]
    assert not list(tmp_path.rglob("checkpoints"))


def test_tuned_rows_have_their_own_table(setting, tmp_path):
    arguments = ("--models", "random,sasrec", "--runs", "1", "--trials", "2")
    with eagerly():
        text = _table(setting, "--out", str(tmp_path), *arguments)
    path = tmp_path / "tuned-2" / "run0" / "sasrec" / "metrics.json"
    stored = yaml.safe_load(path.read_text())
    for path, value in stored["tuning"]["values"].items():
        part, field = path.split(".")
        assert stored["settings"]["config"][part][field] == value
    assert "| sasrec | 2 " in text.split("## Tuning")[1]


_GRU = "gru4rec,default:model.backbone=gru4rec"


@pytest.mark.parametrize(
    ("table", "models", "existing", "pair", "published"),
    [
        # The first table has left sasrec, default and all floors except the two neighbour ones.
        ("table1", None, 8, None, "| Heater     | .0392"),
        ("table2", None, 1, ("default", "NoCL"), "| NoCL    | .0476"),
        ("backbones", f"sasrec,default,{_GRU}", 2, tuple(_GRU.split(",")[::-1]), None),
    ],
)
def test_other_tables(output, setting, tmp_path, table, models, existing, pair, published):
    shutil.copytree(setting / "out", tmp_path / "out")
    arguments = ["--out", str(tmp_path / "out"), *(["--models", models] if models else [])]
    with eagerly():
        text = _table(setting, *arguments, table=table)
    assert text.count("there already") == existing * RUNS
    names = models.split(",") if models else getattr(table_kinds, table.upper()).rows
    with open(tmp_path / "out" / f"{table}.csv", newline="") as file:
        lines = list(csv.reader(file))
    values = {tuple(line[:4]): line[4] for line in lines}
    for name in names:
        assert 0 <= float(values[name, "cold last", "Recall@20", "mean"]) <= 1
    if pair:
        means = [float(values[name, "warm", "NDCG@20", "mean"]) for name in pair]
        part = text.split("## Row against row")[1]
        (line,) = (
            x
            for x in part.splitlines()
            if x.startswith(f"| {pair[0]} ") and "warm N" in x and f"| {pair[1]} " in x
        )
        assert line.split("|")[4].strip() == f"{means[0] / means[1]:.3f}"
    assert ("## As published" in text) == bool(published)
    assert not published or published in text.split("## As published")[1]


def test_every_row_against_one(output, values, setting, tmp_path):
    shutil.copytree(setting / "out", tmp_path / "out")
    arguments = ("--models", "popularity,sasrec,default", "--against", "sasrec")
    text = _table(setting, "--out", str(tmp_path / "out"), *arguments)
    lines = text.split("## Row against row")[1].split("##")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "@20" in line]
    assert {line[0] for line in cells} == {"popularity", "default"}
    assert {line[2] for line in cells} == {"sasrec"} and len(cells) == 2 * 8
    ratio = next(line[3] for line in cells if line[:2] == ["popularity", "overall NDCG@20"])
    means = [values[name, "overall", "NDCG@20", "mean"] for name in ("popularity", "sasrec")]
    assert ratio == f"{means[0] / means[1]:.3f}"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--against", "nobody", "it must be a row"),
        ("--models", "random,nobody", "model 'nobody'"),
        ("--models", "random,random", "named once"),
        ("--preset", "tiny", "only one of them"),
        ("--prepared", "folder", "must hold {run}"),
        ("--models", "random,sasrec:data.max_history=7", "max_history=7.* was prepared with 6"),
    ],
)
def test_bad_input(setting, option, value, message):
    with pytest.raises(InputError, match=message):
        _table(setting, option, value)

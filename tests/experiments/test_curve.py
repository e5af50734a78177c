"""The curve over the train users: its rows, its tables and its command."""

import csv

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import Report
from experiments import curve, curve_report, run_folders
from experiments.cli import experiment
from experiments.curve import ALL, SAME, VARIANTS, points_of
from experiments.table_kinds import Table
from experiments.table_rows import parse_rows
from tests.conftest import eagerly
from tests.experiments.toy import CONFIG, prepare

SHARES = (1.0, 0.05)


@pytest.mark.parametrize("stage1", [SAME, ALL])
@pytest.mark.parametrize(
    ("model", "mapper"), [("default", "full"), ("tiny:model.mapper=NoCL", "NoCL")]
)
def test_each_point_is_a_row_with_its_mapper_and_shares(model, mapper, stage1):
    points = points_of(model, mapper, SHARES, stage1)
    assert [(p.share, p.variant) for p in points] == [(s, v) for s in (0.05, 1.0) for v in VARIANTS]
    (whole,) = parse_rows([model], "my-data")
    for point, row in zip(points, parse_rows([p.row for p in points], "my-data"), strict=True):
        changes = {"model.mapper": point.variant, "finetune.user_share": point.share}
        if stage1 == SAME:
            changes["pretrain.user_share"] = point.share
        assert row.config == whole.config.changed(changes)


def test_results_of_all_users_are_those_of_other_tables():
    names = [p.row for p in points_of("default", "full", (0.1, 1.0), SAME) if p.share == 1]
    assert names == ["default", "NoDA", "NoCL", "None"]


def test_shares_are_numbers():
    assert curve.parse_shares(".05,1,0.25") == (0.05, 1.0, 0.25)
    (point, *_) = points_of("default", "full", (1e-5,), ALL)
    assert point.row == "default:finetune.user_share=0.00001"


@pytest.mark.parametrize("text", ["", "a", "0", "0.5,1.5", "-1", "0.1,0.1", "nan"])
def test_shares_out_of_bounds(text):
    with pytest.raises(InputError, match="different numbers in \\(0, 1\\]"):
        curve.parse_shares(text)


def _store(out, runs, levels):
    """Stores a result of 200 test users for each row: NDCG and likelihood around a level."""
    is_cold = np.arange(200) % 2 == 0
    for name, level in levels.items():
        for run in range(runs):
            noise = np.random.default_rng([run, len(name)]).normal(size=200) / 100
            users = dict.fromkeys(run_folders.VALUES, level + noise)
            users["log_likelihood"] = np.where(is_cold, -7, -6) + level + noise
            rows = {
                segment: {
                    **{key: float(values[selected].mean()) for key, values in users.items()},
                    "users": 100,
                }
                for segment, selected in (("warm", ~is_cold), ("cold", is_cold))
            }
            report = Report(rows, users, is_cold, np.ones(200, int))
            run_folders.write(run_folders.run_folder(out, run, name), report, digest="")


def test_the_tables_compare_the_whole_mapper_with_each_variant(tmp_path):
    points = points_of("default", "full", SHARES, SAME)
    levels = {p.row: 0.2 * p.share + (0.1 if p.variant == "full" else 0.05) for p in points}
    _store(tmp_path, 2, levels)
    rows = parse_rows(levels, "toy")
    kind = Table("curve", tuple(levels))
    page = curve_report.write(
        kind, tmp_path, "toy", rows, 2, "a command", points=points, stage1=SAME
    )
    values, comparisons = page.text.split("## `full` against each variant")
    (head, _, *lines) = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in values.splitlines()
        if line.startswith("|")
    ]
    assert head[2:] == [
        "warm NDCG@20",
        "cold last NDCG@20",
        "warm log-likelihood",
        "cold last log-likelihood",
    ]
    assert [line[:2] for line in lines] == [
        [share, variant] for share in ("5 %", "100 %") for variant in VARIANTS
    ]
    means = [float(cell.split(" ± ")[0]) for cell in lines[0][2:]]
    assert means == pytest.approx([0.11, 0.11, -5.89, -6.89], abs=0.005)
    (line,) = (x for x in comparisons.splitlines() if x.startswith("| 100 %") and "| NoCL" in x)
    cells = [cell.strip().split(" (p = ") for cell in line.split("|")[3:-1]]
    assert float(cells[1][0]) == pytest.approx(0.3 / 0.25, abs=0.02)
    assert float(cells[3][0]) == pytest.approx(np.exp(0.05), abs=0.01)
    assert all(float(p.rstrip(")")) < 0.01 for _, p in cells)
    assert "24 comparisons" in comparisons and "a command" in comparisons
    with open(page.files[1], newline="") as file:
        stored = list(csv.DictReader(file))
    assert len(stored) == 8 * 4 * 2
    assert {float(line["share"]) for line in stored} == set(SHARES)
    assert page.files[2].read_bytes().startswith(b"\x89PNG")


def _curve(folder, *more):
    prepare(folder / "salt0", 0)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = ["--dataset", "toy", "--prepared", folder / "salt{run}", "--runs", 1]
    arguments += ["--config", folder / "config.yaml", "--out", folder / "out", *more]
    result = CliRunner().invoke(experiment, ["curve", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.mark.slow
def test_the_command_trains_every_point(tmp_path):
    with eagerly():
        text = _curve(tmp_path, "--shares", "0.5,1", "--stage1", "all")
    page = (tmp_path / "out" / "curve-stage1-all.md").read_text()
    assert page in text + "\n" and "stage 1 reads all train users" in page
    assert text.count("| 50 %") == 4 + 3
    folders = {path.parent.name for path in tmp_path.rglob("metrics.json")}
    assert folders == {p.row for p in points_of("default", "full", (0.5, 1.0), ALL)}


def test_a_row_without_a_mapper_is_rejected(tmp_path):
    with pytest.raises(InputError, match="only CMCLRec has parts"):
        _curve(tmp_path, "--model", "sasrec")

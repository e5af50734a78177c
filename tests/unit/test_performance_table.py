"""Tests the rows of the performance table, their targets, and the command that makes it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import performance_table
from benchmarks.performance_table import Row


@pytest.mark.parametrize(
    ("value", "bounds", "met", "target"),
    [
        (1.5, {"at_least": 1.5}, True, ">= 1.5"),
        (1.4, {"at_least": 1.5}, False, ">= 1.5"),
        (0.0, {"at_most": 0}, True, "<= 0"),
        (91.0, {"at_most": 90}, False, "<= 90"),
        (None, {"at_most": 90}, None, "<= 90"),
        (7.0, {}, None, ""),
    ],
)
def test_row_compares_the_figure_with_its_target(value, bounds, met, target):
    row = Row("it", value, "s", **bounds)
    assert (row.met, row.target) == (met, target)


def test_missed_targets_are_marked_and_rows_can_be_read_back(tmp_path):
    rows = [Row("slow", 2.0, "s", at_most=1.0, detail="why"), Row("absent", None, "x")]
    performance_table.write(rows, tmp_path / "of" / "rows.json")
    assert performance_table.read(tmp_path / "of" / "rows.json") == rows
    assert "| slow | 2 s | <= 1 | **no** | why |" in performance_table.text(rows)
    assert "| absent | not run |" in performance_table.text(rows)


def test_unknown_benchmark_is_an_error():
    command = [sys.executable, "-m", "benchmarks.run", "startup", "nonsense"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2 and "no benchmark ['nonsense']" in process.stderr


@pytest.mark.slow
def test_benchmarks_run_and_write_their_rows(tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", tmp_path]
    command += ["startup", "evaluation", "gpu"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    values = {
        row["what"]: row["value"] for row in json.loads((tmp_path / "startup.json").read_text())
    }
    assert 0 < values["start-up, `import cmclrec_tf.schema`, without Keras"] < 60
    (ratio,) = (value for what, value in values.items() if "against `import keras`" in what)
    assert 0 < ratio < 60
    assert "evaluation over 5,000 items" in process.stdout
    (row,) = json.loads((tmp_path / "gpu.json").read_text())
    assert row["value"] > 0 and "mixed_bfloat16, XLA" in row["what"]


def test_without_a_gpu_its_rows_say_so():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=hidden)
    *_, last = lines = process.stdout.splitlines()
    assert len(lines) == 2 + 13 and "| not run |" in last and "no GPU here" in last


@pytest.mark.slow
def test_time_to_quality_trains_every_way_and_keeps_what_it_has(dataset, tmp_path):
    folder, out = pathlib.Path(dataset.files["train"][0]).parents[1], tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.time_to_quality", folder, "--out", out]
    command += ["--preset", "tiny", "--jit-compile", "always", "never", "--set"]
    command += ["data.max_history=8", "pretrain.epochs=1", "finetune.epochs=2"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    both = json.loads(out.read_text())
    assert [each["changes"]["compute.jit_compile"] for each in both] == ["always", "never"]
    for figures in both:
        stage = figures["stages"]["expert and finetune"]
        assert stage["epochs"] == len(stage["val_ndcg"]) == 2
        assert 0 < stage["seconds"] < figures["seconds"]
        assert 0 <= figures["metrics"]["cold"]["ndcg@10"] <= 1

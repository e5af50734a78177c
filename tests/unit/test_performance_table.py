"""Tests the rows of the performance table, their targets, and the command that makes it."""

import json
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
    command += ["startup", "evaluation"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    values = {
        row["what"]: row["value"] for row in json.loads((tmp_path / "startup.json").read_text())
    }
    assert 0 < values["start-up, `import cmclrec_tf.schema`, without Keras"] < 60
    (ratio,) = (value for what, value in values.items() if "against `import keras`" in what)
    assert 0 < ratio < 60
    assert "evaluation over 5,000 items" in process.stdout

"""The performance table says what was measured, and whether a target is met."""

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
def test_a_target_is_met_or_not(value, bounds, met, target):
    row = Row("it", value, "s", **bounds)
    assert (row.met, row.target) == (met, target)


def test_a_missed_target_is_seen_and_rows_come_back_from_their_file(tmp_path):
    rows = [Row("slow", 2.0, "s", at_most=1.0, detail="why"), Row("absent", None, "x")]
    performance_table.write(rows, tmp_path / "of" / "rows.json")
    assert performance_table.read(tmp_path / "of" / "rows.json") == rows
    assert "| slow | 2 s | <= 1 | **no** | why |" in performance_table.text(rows)
    assert "| absent | not run |" in performance_table.text(rows)


def test_the_runner_tells_of_a_benchmark_that_does_not_exist():
    command = [sys.executable, "-m", "benchmarks.run", "startup", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no benchmark ['nonsense']" in done.stderr


@pytest.mark.slow
def test_a_benchmark_runs_and_leaves_its_rows(tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", tmp_path]
    command += ["startup", "evaluation"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    values = {
        row["what"]: row["value"] for row in json.loads((tmp_path / "startup.json").read_text())
    }
    assert 0 < values["start-up, `import cmclrec_tf`"] < 60
    assert "evaluation over 5,000 items" in done.stdout

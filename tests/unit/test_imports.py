"""Imports run one way: experiments -> pipeline -> serving -> cmclrec_tf."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
HEAVY = {"tfx", "apache_beam", "tensorflow_transform", "tensorflow_model_analysis", "tfx_bsl"}
FORBIDDEN = {
    "cmclrec_tf": {"serving", "pipeline", "experiments", "benchmarks", *HEAVY},
    "serving": {"pipeline", "experiments", "benchmarks", *HEAVY},
    "pipeline": {"experiments", "benchmarks"},
    "experiments": {"benchmarks"},
}


def imported(path):
    """Top-level modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_downwards(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if name in FORBIDDEN[room]
    }
    assert not wrong


@pytest.mark.parametrize(
    "module",
    [
        "cmclrec_tf.cli",
        "serving.commands.serve",
        "serving.commands.recommend",
        "serving.commands.loadtest",
    ]
    + ["pipeline.commands.cli", "experiments.cli"],
)
def test_the_cli_starts_without_tensorflow(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'tensorflow', 'keras', 'tfx', 'apache_beam', 'grpc'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_trains_loads_no_tfx():
    """From a prepared dataset, in a notebook as in an experiment's process."""
    code = (
        "import sys, cmclrec_tf.training, cmclrec_tf.models, cmclrec_tf.data.prepared\n"
        "import experiments.quality\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]

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
    """Yields the top-level modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_downwards(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if name in FORBIDDEN[package]
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
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_training_imports_no_tfx():
    """Neither in a notebook nor in the process of an experiment."""
    code = (
        "import sys, cmclrec_tf.training, cmclrec_tf.models, cmclrec_tf.data.prepared\n"
        "import experiments.run_table\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-500:]

"""Tests how the benchmark of training runs other libraries, and what it says if one cannot run."""

import ast
import dataclasses
import json
import pathlib
import subprocess

import numpy as np
import pytest

from benchmarks import peers, synthetic, training_speed

PEERS = (peers.recbole, peers.torch_compile, peers.rectools)
SCRIPTS = ("recbole_sasrec.py", "torch_sasrec.py", "rectools_sasrec.py")
FOLDER = pathlib.Path(peers.__file__).parent
FIGURES = {
    "seconds": [9.0, 1.0, 2.0, 7.0],
    "users": 8,
    "version": "1.2",
    "first_loss": 8.0,
    "last_loss": 6.0,
}


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """Returns a function that makes every peer print the given figures, or end with a status."""

    def replace(figures, status=0):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\necho noise\necho '{json.dumps(figures)}'\nexit {status}\n")
        python.chmod(0o755)
        monkeypatch.setattr(peers, "PYTHON", python)

    return replace


def rate(peer, folder):
    return peer(folder, np.ones((8, 51), "int32"), training_speed.SIZES, 3)


@pytest.mark.parametrize("peer", PEERS)
def test_rate_is_that_of_the_median_epoch_without_the_first(peer, answer, tmp_path):
    answer(FIGURES)
    measured = rate(peer, tmp_path)
    row = measured.row("it", 6.0, at_least=1.0, more="sizes")
    assert (measured.examples, row.value, row.met) == (4.0, 1.5, True)
    assert row.detail.startswith("6/s; ") and row.detail.endswith(
        " 1.2 4/s, loss 8.00 to 6.00; sizes"
    )


@pytest.mark.parametrize("peer", PEERS)
def test_peer_that_is_not_installed_is_not_run(peer, monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "PYTHON", tmp_path / ".venv-peers" / "bin" / "python")
    row = rate(peer, tmp_path).row("it", 6.0, at_least=1.0)
    assert row.value is None and row.met is None
    assert row.detail.startswith("6/s; ") and "not installed: make " in row.detail
    assert row.detail.endswith(".venv-peers/.ready")


def test_row_says_what_a_peer_lacks(answer, tmp_path):
    answer({"missing": "a C++ compiler: install g++"})
    row = rate(peers.torch_compile, tmp_path).row("it", 6.0)
    assert row.value is None and "PyTorch lacks a C++ compiler: install g++" in row.detail


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"last_loss": 8.0}, 0, "A peer must learn"),
        ({"last_loss": float("nan")}, 0, "A peer must learn"),
        ({"users": 7}, 0, "7 users, not on 8"),
        ({}, 1, "RecTools failed"),
    ],
)
def test_wrong_figures_are_errors(answer, tmp_path, changes, status, message):
    answer({**FIGURES, **changes}, status)
    with pytest.raises(RuntimeError, match=message):
        rate(peers.rectools, tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_of_peers_stand_alone(script):
    nodes = list(ast.walk(ast.parse((FOLDER / script).read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert "torch" in names
    assert not {name.partition(".")[0] for name in names} & {"benchmarks", "cmclrec_tf"}


@pytest.mark.slow
@pytest.mark.skipif(not peers.PYTHON.exists(), reason="the peers are not installed")
def test_compiled_torch_model_does_the_same_work(tmp_path):
    np.save(tmp_path / "histories.npy", synthetic.every_item(synthetic.ITEMS))
    settings = json.dumps(dataclasses.asdict(training_speed.SIZES))
    command = [peers.PYTHON, FOLDER / "torch_sasrec.py", tmp_path, settings, "--epochs", "20"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    figures = json.loads(process.stdout.splitlines()[-1])
    flops = training_speed.flops_of_an_example()
    assert figures["flops_of_an_example"] == pytest.approx(flops, rel=1e-3)  # a row for padding
    assert figures["last_loss"] < figures["first_loss"]

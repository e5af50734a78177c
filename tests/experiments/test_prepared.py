"""Prepared datasets of the runs: made in a process of its own, once, and anew when stale."""

import dataclasses
import sys

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.data.prepared import PreparedDataset
from experiments.prepared import Made, PrepareError
from tests.pipeline.toy_datasets import cold_users, write_clusters

DATA = DataConfig(max_history=10, target="all", salt="1")


@pytest.mark.pipeline
@pytest.mark.slow
def test_made_once_and_anew_when_stale(tmp_path, capfd):
    loaded = "tfx" in sys.modules
    spec = write_clusters(tmp_path / "raw")
    made = Made(spec, tmp_path / "raw", tmp_path / "var")
    folder = made.folder(1, DATA)
    assert folder == tmp_path / "var" / "prepared" / "clusters-salt1"
    assert "[6/6] Transform" in capfd.readouterr().err
    assert ("tfx" in sys.modules) == loaded

    dataset = PreparedDataset.load(folder)
    (batch,) = dataset.batches("test", 999).as_numpy_iterator()
    cold = {u for u, c in zip(dataset.user_ids("test"), batch["is_cold"], strict=True) if c}
    assert cold == set(cold_users(DATA))
    # Everything that was removed, at least five events a user.
    assert ((batch["target"][batch["is_cold"]] > 0).sum(axis=1) > 1).all()

    assert Made(spec, tmp_path / "raw", tmp_path / "var").folder(1, DATA) == folder
    assert "Transform" not in capfd.readouterr().err
    with open(tmp_path / "raw" / "interactions.csv", "a") as file:
        file.write("u0,it1,noon\n")
    with pytest.raises(PrepareError, match="could not be prepared"):
        Made(spec, tmp_path / "raw", tmp_path / "var").folder(1, DATA)
    assert "column 'time' must be an integer" in capfd.readouterr().err


def test_what_a_prepared_dataset_depends_on(tmp_path):
    spec = write_clusters(tmp_path)
    made = Made(spec, tmp_path, tmp_path / "var")
    state = made._state(DATA)
    assert made._state(DATA) == state
    assert made._state(dataclasses.replace(DATA, salt="2")) != state
    spec.write_text(spec.read_text().replace("zip_code", "job"))
    assert Made(spec, tmp_path, tmp_path / "var")._state(DATA) != state

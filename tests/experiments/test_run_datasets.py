"""Prepared datasets of the runs: made once, in a process of their own, and again when stale."""

import dataclasses
import sys

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.data.prepared import PreparedDataset
from experiments.run_datasets import PreparedOnDemand, PrepareError, label
from tests.pipeline.toy_datasets import cold_users, write_clusters

DATA = DataConfig(max_history=10, target="all", salt="1")


@pytest.mark.pipeline
@pytest.mark.slow
def test_prepared_once_and_again_when_stale(tmp_path, capfd):
    loaded = "tfx" in sys.modules
    spec = write_clusters(tmp_path / "raw")
    datasets = PreparedOnDemand(spec, tmp_path / "raw", tmp_path / "var")
    folder = datasets.folder(1, DATA)
    assert folder == tmp_path / "var" / "prepared" / "clusters-salt1"
    assert "[6/6] Transform" in capfd.readouterr().err
    assert ("tfx" in sys.modules) == loaded

    dataset = PreparedDataset.load(folder)
    (batch,) = dataset.batches("test", 999).as_numpy_iterator()
    cold = {u for u, c in zip(dataset.user_ids("test"), batch["is_cold"], strict=True) if c}
    assert cold == set(cold_users(DATA))
    # All removed items: every user has at least five events.
    assert ((batch["target"][batch["is_cold"]] > 0).sum(axis=1) > 1).all()

    assert PreparedOnDemand(spec, tmp_path / "raw", tmp_path / "var").folder(1, DATA) == folder
    assert "Transform" not in capfd.readouterr().err
    with open(tmp_path / "raw" / "interactions.csv", "a") as file:
        file.write("u0,it1,noon\n")
    with pytest.raises(PrepareError, match="could not be prepared"):
        PreparedOnDemand(spec, tmp_path / "raw", tmp_path / "var").folder(1, DATA)
    assert "column 'time' must be an integer" in capfd.readouterr().err


def test_the_inputs_of_a_prepared_dataset(tmp_path):
    spec = write_clusters(tmp_path)
    datasets = PreparedOnDemand(spec, tmp_path, tmp_path / "var")
    state = datasets._state(DATA)
    assert datasets._state(DATA) == state
    assert datasets._state(dataclasses.replace(DATA, salt="2")) != state
    spec.write_text(spec.read_text().replace("zip_code", "job"))
    assert PreparedOnDemand(spec, tmp_path, tmp_path / "var")._state(DATA) != state


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "toy"),
        ({"split": "leave-one-out"}, "toy-leave-one-out"),
        ({"split": "time"}, "toy-time"),
        ({"split": "time", "split_time": "2022-05-01 07:08"}, "toy-time-2022-05-010708"),
        ({"split": "time", "split_time": "../../-1.5"}, "toy-time-....-1.5"),
    ],
)
def test_a_label_has_the_split_and_its_time(settings, expected):
    assert label("toy", dataclasses.replace(DATA, **settings)) == expected

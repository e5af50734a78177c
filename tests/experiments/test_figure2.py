"""Figure 2: its numbers by hand, and the whole command on two runs of a tiny dataset."""

import csv

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cmclrec_tf.errors import InputError
from experiments import figure2
from experiments.cli import experiment
from experiments.figure2_report import cosines, numbers
from tests.conftest import TINY
from tests.experiments.toy import prepare

RUNS = 2


def _vectors(rng, shift=0.0, n=60, scale=1.0):
    return (rng.normal(size=(n, 4)) * scale + shift).astype(np.float32)


def test_numbers_of_one_distribution_and_of_two():
    rng = np.random.default_rng(0)
    warm, codes = _vectors(rng), _vectors(rng)
    vectors = {"before/warm": warm, "before/own": warm + 3, "before/codes_s": codes}
    vectors |= {"before/cold": _vectors(rng, 5.0, scale=0.5), "before/codes_f": codes}
    found = numbers(vectors, "before")
    assert found["MMD of histories"] > 0.5 > 0.1 > found["MMD of two halves of warm users"]
    assert found["MMD of codes"] == pytest.approx(0.0, abs=1e-5)
    assert found["spread"] == pytest.approx(0.25, abs=0.1)
    # A shift of the whole set is not a difference between users.
    assert found["cosine with own history"] == pytest.approx(1.0, abs=1e-5)
    assert abs(found["cosine with others' histories"]) < 0.1


def test_cosines_by_hand():
    real = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], np.float32)
    simulated = np.array([[0.0, 3.0], [0.0, -3.0], [0.0, 5.0], [0.0, -5.0]], np.float32)
    pairs = [
        simulated[i] @ real[j] / np.linalg.norm(simulated[i]) / np.linalg.norm(real[j])
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    assert cosines(simulated, real) == pytest.approx((0.5, np.mean(pairs)))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure2")
    for run in range(RUNS):
        prepare(folder / f"salt{run}", run)
    config = {**TINY, "data": {"max_history": 6}}
    config["pretrain"] = {"epochs": 12, "epoch_steps": 4, "batch_size": 64}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _figure2(folder, *more):
    given = {
        "--dataset": "toy",
        "--prepared": folder / "salt{run}",
        "--config": folder / "config.yaml",
        "--runs": RUNS,
        "--out": folder / "out",
    }
    arguments = [str(part) for pair in given.items() for part in pair]
    result = CliRunner().invoke(experiment, ["figure2", *arguments, *more])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def shown(setting):
    return _figure2(setting)


def test_the_command_leaves_numbers_a_picture_and_a_projector(setting, shown):
    out = setting / "out"
    assert (out / "figure2.md").read_text() in shown + "\n"
    assert "cmclrec experiment figure2 --dataset toy --config " in shown
    assert (out / "figure2.png").read_bytes().startswith(b"\x89PNG")
    with open(out / "figure2.csv", newline="") as file:
        values = {
            (line["state"], line["number"], int(line["run"])): float(line["value"])
            for line in csv.DictReader(file)
        }
    assert len(values) == 2 * 6 * RUNS
    for run in range(RUNS):
        before, after = (values[state, "MMD of codes", run] for state in figure2.STATES)
        assert after < before
        with np.load(out / f"run{run}" / "figure2-default" / figure2.VECTORS) as stored:
            assert np.isfinite(stored["after/cold"]).all()
            expected = (
                stored["after/cold"].var(axis=0).sum() / stored["after/warm"].var(axis=0).sum()
            )
        assert values["after", "spread", run] == pytest.approx(expected, rel=1e-4)
    projector = out / "figure2-projector"
    assert "after_stage_1" in (projector / "projector_config.pbtxt").read_text()
    texts = (projector / "before_stage_1_names.tsv").read_text().split()
    assert texts == ["warm"] * 12 + ["cold"] * 12
    assert np.loadtxt(projector / "before_stage_1.tsv").shape == (24, TINY["model"]["width"])


def test_a_run_that_exists_is_not_run_again(setting, shown):
    options = {"prepared": str(setting / "salt{run}"), "out": setting / "out"}
    options["config_path"] = setting / "config.yaml"
    assert figure2.run("toy", runs=RUNS, **options).trained == 0
    assert figure2.run("toy", runs=1, users=5, **options).trained == 1


def test_before_are_the_weights_that_stage_1_starts_from(setting):
    row = "default:pretrain.epochs=0"
    options = {"prepared": str(setting / "salt{run}"), "config_path": setting / "config.yaml"}
    done = figure2.run("toy", model=row, runs=1, out=setting / "untrained", **options)
    assert done.trained == 1
    place = setting / "untrained" / "run0" / f"figure2-{row}" / figure2.VECTORS
    with np.load(place) as stored:
        for name in ("warm", "cold", "own", "codes_s", "codes_f"):
            np.testing.assert_array_equal(stored[f"before/{name}"], stored[f"after/{name}"])


@pytest.mark.parametrize("name", ["sasrec", "popularity", "NoCL", "None"])
def test_only_what_brings_histories_together_is_drawn(setting, name):
    with pytest.raises(InputError, match="cross-modal module"):
        _figure2(setting, "--model", name)

"""Figure 2: its numbers by hand, and the command on two runs of a tiny dataset."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cmclrec_tf import training
from cmclrec_tf.checkpoints import Checkpoints
from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
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
    values = numbers(vectors, "before")
    assert values["MMD of histories"] > 0.5 > 0.1 > values["MMD of warm and warm histories"]
    assert values["MMD of codes"] == pytest.approx(0.0, abs=1e-5)
    assert values["spread"] == pytest.approx(0.25, abs=0.1)
    # A shift of the whole set is not a difference between users.
    assert values["cosine with own history"] == pytest.approx(1.0, abs=1e-5)
    assert abs(values["cosine with others' histories"]) < 0.1


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
    config = {**TINY, "data": {"max_history": 6}, "model": {**TINY["model"], "simulated": 3}}
    config["pretrain"] = {"epochs": 12, "epoch_steps": 4, "batch_size": 64}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _options(setting, **more):
    config = setting / "config.yaml"
    return {"prepared": str(setting / "salt{run}"), "config_path": config, "runs": RUNS, **more}


def _figure2(folder, *more):
    options = {
        "--dataset": "toy",
        "--prepared": folder / "salt{run}",
        "--config": folder / "config.yaml",
        "--runs": RUNS,
        "--out": folder / "out",
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    result = CliRunner().invoke(experiment, ["figure2", *arguments, *more])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def output(setting):
    return _figure2(setting)


def _stored(out, run, row="default"):
    with np.load(out / f"run{run}" / f"figure2-{row}" / figure2.VECTORS) as stored:
        return dict(stored)


@pytest.mark.slow
def test_the_command_writes_numbers_a_picture_and_projector_files(setting, output):
    out = setting / "out"
    assert (out / "figure2-default.md").read_text() in output + "\n"
    assert "cmclrec experiment figure2 --dataset toy --config " in output
    assert "of the simulated history T_s' for cold ones, 12 of each" in output
    assert (out / "figure2-default.png").read_bytes().startswith(b"\x89PNG")
    with open(out / "figure2-default.csv", newline="") as file:
        values = {
            (line["state"], line["number"], int(line["run"])): float(line["value"])
            for line in csv.DictReader(file)
        }
    assert len(values) == 2 * 7 * RUNS
    for run in range(RUNS):
        before, after = (values[state, "MMD of codes", run] for state in figure2.STATES)
        assert after < before
        vectors = _stored(out, run)
        warm, cold = (vectors[f"after/{name}"][:12].var(axis=0).sum() for name in ("warm", "cold"))
        assert values["after", "spread", run] == pytest.approx(cold / warm, rel=1e-4)
    projector = out / "figure2-default"
    assert "after_stage_1" in (projector / "projector_config.pbtxt").read_text()
    texts = (projector / "before_stage_1_names.tsv").read_text().split()
    assert texts == ["warm"] * 12 + ["cold"] * 12
    assert np.loadtxt(projector / "before_stage_1.tsv").shape == (24, TINY["model"]["width"])


@pytest.mark.slow
def test_the_first_vectors_are_those_of_the_untrained_mapper(setting, output):
    config = Config.from_yaml(setting / "config.yaml")
    config = dataclasses.replace(config, seed=1)
    keras.utils.set_random_seed(1)
    dataset = PreparedDataset.load(setting / "salt1").with_history(6)
    untrained = dataclasses.replace(config.pretrain, epochs=0)
    mapper = training.pretrain(dataset, dataclasses.replace(config, pretrain=untrained)).mapper
    batch = next(iter(dataset.batches("test", 64)))
    cold, real = np.asarray(batch["is_cold"]), np.asarray(batch["history"]) > 0
    t_s, t_f, simulated = (np.asarray(x) for x in mapper(batch, training=False))
    # Histories of 4 to 6: the newest three positions are real in all of them.
    assert real[~cold][:, 3:].all()
    expected = {
        "warm": t_s[~cold][:, 3:].mean(axis=1),
        "own": simulated[~cold].mean(axis=1),
        "cold": simulated[cold].mean(axis=1),
        "codes_s": np.asarray(mapper.auto_s.encode(t_s, real))[~cold],
        "codes_f": np.asarray(mapper.auto_f.encode(t_f))[cold],
    }
    stored = _stored(setting / "out", 1)
    for name, vectors in expected.items():
        np.testing.assert_allclose(stored[f"before/{name}"], vectors, atol=1e-5)
        assert np.abs(stored[f"after/{name}"] - vectors).max() > 1e-3


@pytest.mark.slow
def test_a_run_that_exists_is_not_run_again(setting, output):
    options = _options(setting, out=setting / "out")
    assert figure2.run("toy", **options).trained == 0
    # Not for fewer users or another stage 2 either.
    few = figure2.run("toy", users=5, **options)
    assert few.trained == 0 and "5 of each" in few.text
    other = setting / "other.yaml"
    config = yaml.safe_load((setting / "config.yaml").read_text())
    config["finetune"]["epochs"] = 99
    other.write_text(yaml.safe_dump(config))
    assert figure2.run("toy", **{**options, "config_path": other}).trained == 0


@pytest.mark.slow
def test_a_killed_stage_1_resumes(setting, output, tmp_path, monkeypatch):
    saved = []

    def killed(self, epoch, arrays, **facts):
        if epoch == 7:
            raise KeyboardInterrupt
        saved.append(epoch)
        return save(self, epoch, arrays, **facts)

    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", killed)
    options = _options(setting, out=tmp_path, runs=1)
    with pytest.raises(KeyboardInterrupt):
        figure2.run("toy", **options)
    monkeypatch.undo()
    monkeypatch.setattr(Checkpoints, "save", lambda self, epoch, *a, **f: saved.append(epoch))
    figure2.run("toy", **options)
    assert saved == [*range(1, 7), *range(7, 13), 12]
    np.testing.assert_allclose(
        _stored(tmp_path, 0)["after/cold"], _stored(setting / "out", 0)["after/cold"], atol=1e-5
    )
    assert not (tmp_path / "run0" / "figure2-default" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["sasrec", "popularity", "NoCL", "None"])
def test_only_rows_with_the_cross_modal_module_are_accepted(setting, name):
    with pytest.raises(InputError, match="cross-modal module"):
        _figure2(setting, "--model", name)


def test_a_split_without_cold_users_is_rejected(setting):
    with pytest.raises(InputError, match="no user is cold"):
        _figure2(setting, "--model", "default:data.split=leave-one-out")

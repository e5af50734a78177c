"""A killed training resumes, and ends with the weights of an uninterrupted one."""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from cmclrec_tf.checkpoints import LOCK, Checkpoints
from cmclrec_tf.config import Config
from cmclrec_tf.data import stream
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.training import train
from tests.conftest import FEATURES, TINY

ROOT = pathlib.Path(__file__).parents[2]
# Dropout has seeds of its own; with a large patience early stopping has a state to restore.
RESUMED = {
    **TINY,
    "model": {**TINY["model"], "dropout": 0.1},
    "pretrain": {**TINY["pretrain"], "epochs": 4},
    # Two passes an epoch.
    "finetune": {**TINY["finetune"], "epochs": 5, "epoch_steps": 4},
}
# Killed in the middle of an epoch of the stage, once its second epoch has been saved.
TRAINING = """
import json, os, pathlib, signal, sys
from cmclrec_tf import Config, load, train
from cmclrec_tf.callbacks import SaveEpochs

data, config, folder, stage = sys.argv[1:]

def kill(self, batch, logs=None):
    if batch == 1 and (pathlib.Path(folder) / stage / "epoch-00002.npz").exists():
        os.kill(os.getpid(), signal.SIGKILL)

def report(self, epoch, logs=None):
    print(self.checkpoints.folder.name, epoch, flush=True)

SaveEpochs.on_train_batch_end, SaveEpochs.on_epoch_begin = kill, report
train(load(data), Config.from_dict(json.loads(config)), checkpoint_dir=folder)
"""


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """An uninterrupted training: its weights, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(dataset, Config.from_dict(RESUMED), checkpoint_dir=folder).get_weights(), folder


@pytest.fixture
def copied(uninterrupted, tmp_path):
    """Checkpoints as they are after a kill right after the last epoch."""
    shutil.copytree(uninterrupted[1], tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "finetune" / "done.npz").unlink()
    return tmp_path / "checkpoints"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def killed_in(stage, dataset, folder):
    """Trains in a process that is killed in the stage; returns the epochs that it began."""
    prepared = str(pathlib.Path(dataset.vocabularies["items"]).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, prepared, json.dumps(RESUMED), str(folder), stage],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert sorted(path.name for path in (folder / stage).glob("*.npz")) == [
        "epoch-00001.npz",
        "epoch-00002.npz",
    ]
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_killed_in_both_stages_it_ends_with_the_same_weights(dataset, uninterrupted, tmp_path):
    assert killed_in("pretrain", dataset, tmp_path) == [f"pretrain {e}" for e in (0, 1, 2)]
    assert killed_in("finetune", dataset, tmp_path) == [
        *(f"pretrain {e}" for e in (2, 3)),
        *(f"finetune {e}" for e in (0, 1, 2)),
    ]
    flip(tmp_path / "finetune" / "epoch-00002.npz")
    with pytest.warns(UserWarning, match="finetune/epoch-00002.npz is damaged"):
        again = train(dataset, Config.from_dict(RESUMED), checkpoint_dir=tmp_path)
    for one, two in zip(again.get_weights(), uninterrupted[0], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_newest_two_are_kept_with_checksums(uninterrupted):
    names = sorted(path.name for path in (uninterrupted[1] / "pretrain").iterdir())
    files = ["done.npz", "epoch-00003.npz", "epoch-00004.npz"]
    assert names == sorted([*files, *(f"{name}.sha256" for name in files), LOCK])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(dataset, copied, damage):
    """Damaged data, or a missing checksum."""
    newest = copied / "finetune" / "epoch-00005.npz"
    damage(newest if damage is not pathlib.Path.unlink else newest.with_suffix(".npz.sha256"))
    with pytest.warns(UserWarning, match="epoch-00005.npz is damaged") as record:
        facts, _ = Checkpoints(copied / "finetune", Config.from_dict(RESUMED), dataset).newest()
    assert facts["epoch"] == 4 and len(record) == 1


@pytest.mark.slow
def test_a_kill_between_the_last_epoch_and_the_end(dataset, uninterrupted, copied):
    """Nothing is left to train; early stopping's best weights come from the checkpoint."""
    again = train(dataset, Config.from_dict(RESUMED), checkpoint_dir=copied).get_weights()
    for one, two in zip(again, uninterrupted[0], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_without_a_sound_checkpoint_the_stage_starts_again(dataset, uninterrupted, copied):
    config = Config.from_dict(RESUMED)
    damaged = sorted((copied / "finetune").glob("epoch-*.npz"))
    for path, damage in zip(damaged, (truncate, flip), strict=True):
        damage(path)
    with pytest.warns(UserWarning, match="the stage starts again"):
        assert Checkpoints(copied / "finetune", config, dataset).newest() is None
    facts, _ = Checkpoints(copied / "pretrain", config, dataset).newest()
    assert facts["complete"]  # stage 1 is not touched by it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "field", "value", "text"),
    [
        ("finetune", "learning_rate", 0.5, "finetune.learning_rate: 0.01 in the checkpoint, 0.5 n"),
        ("model", "width", 32, "model.width: 16 in the checkpoint, 32 now"),
        ("evaluate", "ks", (20,), r"evaluate.ks: \[5, 10, 20, 50\] in the checkpoint"),
    ],
)
def test_another_config_is_refused_by_field(dataset, copied, part, field, value, text):
    config = Config.from_dict(RESUMED)
    other = dataclasses.replace(getattr(config, part), **{field: value})
    with pytest.raises(InputError, match=text):
        Checkpoints(
            copied / "pretrain", dataclasses.replace(config, **{part: other}), dataset
        ).newest()


@pytest.mark.slow
def test_another_dataset_is_refused(records, dataset, copied, tmp_path):
    """The numbers of items and users are equal, the items are not."""
    renamed = [
        {**u, "history": [i.replace("i", "j") for i in u["history"]]} for u in records["train"]
    ]
    for user in renamed:
        user["target"] = [i.replace("i", "j") for i in user["target"]]
    other = prepare_tables({**records, "train": renamed}, FEATURES, tmp_path / "o", max_history=8)
    assert other.schema.items == dataset.schema.items
    with pytest.raises(InputError, match="dataset.digest: .* in the checkpoint"):
        train(other, Config.from_dict(RESUMED), checkpoint_dir=copied)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clip": (0.0, 90.0)}, "features.age.clip: nothing in the checkpoint"),
        ({"transform": "log"}, "features.age.transform: nothing in the checkpoint, log now"),
        ({"bins": 4, "quantiles": (9.0,)}, "features.age.bins: nothing in the checkpoint, 4 now"),
        ({"mean": 1e3}, "features.age.mean: .* in the checkpoint, 1000.0 now"),
        ({"scale": 1e3}, "features.age.scale: .* in the checkpoint, 1000.0 now"),
        ({"numbers": 2}, "features.age.numbers: 1 in the checkpoint, 2 now"),
    ],
)
def test_other_values_of_a_user_feature_are_refused(dataset, tmp_path, changes, text):
    config = Config()
    Checkpoints(tmp_path, config, dataset).save(1, {"model/0": np.ones(2)})
    (age, *rest) = dataset.schema.features
    other = dataclasses.replace(
        dataset.schema, features=(dataclasses.replace(age, **changes), *rest)
    )
    with pytest.raises(InputError, match=text):
        Checkpoints(tmp_path, config, dataclasses.replace(dataset, schema=other)).newest()
    # The mean of the same rows in another order.
    other = dataclasses.replace(
        other, features=(dataclasses.replace(age, mean=age.mean * (1 + 1e-9)), *rest)
    )
    other_order = dataclasses.replace(dataset, schema=other)
    assert Checkpoints(tmp_path, config, other_order).newest()[0]["epoch"] == 1


def test_a_checkpoint_without_the_scales_is_not_used(dataset, tmp_path):
    checkpoints = Checkpoints(tmp_path, Config(), dataset)
    old = Checkpoints(tmp_path, Config(), dataset)
    for feature in old.identity["dataset"]["features"].values():
        del feature["scale"]
    arrays = {"model/0": np.ones(2)}
    for epoch in (4, 5):
        old.save(epoch, arrays)
    with (
        pytest.warns(UserWarning, match="epoch-0000[45].npz does not say how its user features"),
        pytest.warns(UserWarning, match="the stage starts again"),
    ):
        assert checkpoints.newest() is None
    # The training starts again, and its first epochs are the ones that are kept.
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, arrays)
    assert checkpoints.newest()[0]["epoch"] == 3
    names = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert names == ["epoch-00002.npz", "epoch-00003.npz"]


def test_a_complete_stage_on_read_only_storage_is_loaded(dataset, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, Config(), dataset)
    checkpoints.save(1, {"model/0": np.ones(2)}, complete=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with checkpoints.lock():
        assert checkpoints.newest()[0]["complete"]
    assert not (tmp_path / LOCK).exists()


@pytest.mark.slow
def test_settings_of_serving_may_change(dataset, uninterrupted):
    config = Config.from_dict({**RESUMED, "serve": {"list_length": 7}})
    assert Checkpoints(uninterrupted[1] / "finetune", config, dataset).newest()[0]["complete"]


def history_lengths(batch):
    return np.count_nonzero(batch["history"].numpy(), axis=1)


def keys(batches, n):
    return [batch["user_key"].numpy().tolist() for batch in batches.take(n)]


@pytest.mark.parametrize("memory", [True, False])
def test_stream_is_a_function_of_seed_and_epoch(dataset, monkeypatch, memory):
    if not memory:
        monkeypatch.setattr(stream, "IN_MEMORY_USERS", 10)
        monkeypatch.setattr(stream, "CHUNK", 50)
    steps = dataset.steps("train", 40)
    assert steps == 3
    three = keys(dataset.stream("train", 40, seed=5), 3 * steps)
    assert [len(batch) for batch in three[:3]] == [40, 40, 40 if memory else 16]
    assert three == keys(dataset.stream("train", 40, seed=5), 3 * steps)
    assert three[3:] == keys(dataset.stream("train", 40, seed=5, first_epoch=1), 2 * steps)
    first, second, _ = (sum(three[i : i + 3], []) for i in (0, 3, 6))
    everyone = keys(dataset.batches("train", 96, shuffle=False), 1)[0]
    assert first != second and set(first) == set(second) == set(everyone)
    assert first != sum(keys(dataset.stream("train", 40, seed=6), 3), [])


def test_streamed_batches_are_cut_to_their_longest_history(dataset):
    widths = set()
    for batch in dataset.stream("train", 8, seed=1).take(12):
        history = batch["history"].numpy()
        assert np.any(history[:, 0])  # no column of padding alone
        widths.add(history.shape[1])
    assert len(widths) > 1


def test_users_share_batches_whatever_their_history_lengths(dataset):
    lengths = [history_lengths(batch) for batch in dataset.stream("train", 8, seed=1).take(12)]
    spread = np.mean([batch.max() - batch.min() for batch in lengths])
    assert spread > (max(map(np.max, lengths)) - min(map(np.min, lengths))) / 2


@pytest.mark.parametrize("memory", [True, False])
def test_streamed_batches_hold_what_batches_hold(dataset, monkeypatch, memory):
    if not memory:
        monkeypatch.setattr(stream, "IN_MEMORY_USERS", 10)
    whole = next(iter(dataset.batches("train", 96, shuffle=False)))
    batch = next(iter(dataset.stream("train", 96, seed=2)))
    place = {key: row for row, key in enumerate(whole["user_key"].numpy())}
    rows = [place[key] for key in batch["user_key"].numpy()]
    for name in ("history", "target", "is_cold", "profile_key"):
        np.testing.assert_array_equal(batch[name], whole[name].numpy()[rows])
    for name, value in batch["features"].items():
        expected = whole["features"][name].numpy()[rows]
        np.testing.assert_array_equal(value, expected[:, : value.shape[1]])
        assert not np.any(expected[:, value.shape[1] :])  # padding

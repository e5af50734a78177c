"""Two replicas, in one process or in two, end with the weights of one replica."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml

from cmclrec_tf import replicas
from cmclrec_tf.config import Config
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.training import train
from tests.conftest import FEATURES, TINY, cluster_users

ROOT = pathlib.Path(__file__).parents[2]
# What is drawn by rows is drawn alike, and dropout is 0. Adam divides by the size of gradients,
# which makes much of rounding: measured 3e-5.
TOLERANCE = 3e-4
SETTINGS = {
    **TINY,
    "pretrain": {**TINY["pretrain"], "epochs": 2},
    # Averages of the weights, and early stopping on the validation users.
    "finetune": {**TINY["finetune"], "epochs": 3, "patience": 2},
}
MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from cmclrec_tf import Config, load, replicas, train
folder, config, out = sys.argv[1:]
dataset = load(folder)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = train(dataset, Config.from_yaml(config))
print("replicas", model.distribute_strategy.num_replicas_in_sync)
replicas.plain_copy(model, dataset).save(out)
"""
# Keras splits the batches and builds the model.
FIT = """
import contextlib, sys
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from cmclrec_tf import Config, Pretrain, load
dataset, config = load(sys.argv[1]), Config.from_yaml(sys.argv[2])
weights = []
for scope in (contextlib.nullcontext(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()):
    with scope:
        keras.utils.set_random_seed(0)
        model = Pretrain(dataset.schema, config)
        model.compile(keras.optimizers.Adam(1e-3))
        model.fit(dataset.batches("train", 32, shuffle=False), epochs=2, verbose=0)
        weights.append(model.get_weights())
print("apart", max(np.abs(one - two).max() for one, two in zip(*weights)))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared dataset with splits of odd sizes, and the folder with it and the config."""
    folder = tmp_path_factory.mktemp("prepared")
    users = {
        "train": cluster_users("u", 89, 1) + cluster_users("c", 6, 4, "cold"),
        "val": cluster_users("v", 31, 2),
        "test": cluster_users("w", 4, 3),
    }
    dataset = prepare_tables(users, FEATURES, folder / "data", max_history=8)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return dataset, folder


@pytest.fixture(scope="module")
def alone(prepared):
    """The weights after training with one replica."""
    return train(prepared[0], Config.from_dict(SETTINGS)).get_weights()


def start(arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def two_workers(folder, out, checkpoints):
    """Runs `cmclrec train` as in docs/training.md; returns output and exit code of both workers."""
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two)]
    started = []
    for index in (0, 1):
        command = ["-m", "cmclrec_tf.train_cli", folder / "data"]
        command += ["--config", folder / "config.yaml"]
        command += ["--out", out / f"worker-{index}.keras", "--checkpoints", checkpoints[index]]
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        # The exchange needs a thread in addition to the one that waits for it.
        more = {"TF_CONFIG": json.dumps(cluster), "TF_NUM_INTEROP_THREADS": "4"}
        started.append(start(command, **more))
    return [(worker.communicate(timeout=300)[0], worker.returncode) for worker in started]


def assert_same(path, weights):
    model = keras.saving.load_model(path)
    for one, two, weight in zip(model.get_weights(), weights, model.weights, strict=True):
        # The fit of the prior's coefficients amplifies the rounding of the other weights.
        rtol = 1e-2 if "coefficients" in weight.path else 0
        np.testing.assert_allclose(one, two, rtol=rtol, atol=TOLERANCE, err_msg=weight.path)


@pytest.mark.slow
def test_two_replicas_in_one_process_match_one(prepared, alone, tmp_path):
    _, folder = prepared
    arguments = [folder / "data", folder / "config.yaml", tmp_path / "m.keras"]
    text, _ = (process := start(["-c", MIRRORED, *arguments])).communicate(timeout=300)
    assert process.returncode == 0, text[-3000:]
    assert "replicas 2" in text
    assert_same(tmp_path / "m.keras", alone)


@pytest.mark.slow
def test_fit_under_a_strategy_takes_unsplit_batches(prepared):
    _, folder = prepared
    process = start(["-c", FIT, folder / "data", folder / "config.yaml"])
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text[-3000:]
    assert float(text.split("apart")[1]) < TOLERANCE


@pytest.mark.slow
def test_two_processes_match_one_and_resume_after_a_kill(prepared, alone, tmp_path):
    _, folder = prepared
    shared = tmp_path / "checkpoints"
    for text, code in two_workers(folder, tmp_path, [shared] * 2):
        assert code == 0, text[-3000:]
    # The chief alone writes.
    assert [path.name for path in tmp_path.glob("*.keras")] == ["worker-0.keras"]
    assert_same(tmp_path / "worker-0.keras", alone)

    # As a kill in the last epoch leaves it.
    for name in ("done.npz", "epoch-00003.npz"):
        (shared / "finetune" / name).unlink()
    (tmp_path / "worker-0.keras").unlink()
    for text, code in two_workers(folder, tmp_path, [shared] * 2):
        assert code == 0, text[-3000:]
    assert_same(tmp_path / "worker-0.keras", alone)

    # A worker that does not see the chief's folder would train on from somewhere else.
    for text, code in two_workers(folder, tmp_path, [shared, tmp_path / "elsewhere"]):
        assert code != 0 and "all workers must start from the same checkpoint" in text


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"cluster": 3}'])
def test_an_invalid_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="it must be a JSON object"):
        replicas.find_strategy()


def test_one_worker_alone_needs_no_strategy(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["localhost:1"]}}')
    assert replicas.find_strategy().num_replicas_in_sync == 1
    assert replicas.is_chief()

"""Callbacks of Keras with both stages, and those of the library."""

import io
import json
import sys
import time

import keras
import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.plugins import projector

from cmclrec_tf.callbacks import Progress, Projector, without_progress
from cmclrec_tf.data import vocabulary
from cmclrec_tf.models import CMCLRec, Pretrain
from tests.conftest import FEATURES, one_quick

pytestmark = pytest.mark.usefixtures("eager")
STAGES = (Pretrain, CMCLRec)


class InterruptedFitError(RuntimeError):
    pass


class BreakAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise InterruptedFitError


def build(stage, dataset, config, rate=0.01):
    keras.utils.set_random_seed(0)
    model = stage(dataset.schema, config)
    model(next(iter(dataset.batches("train", 32, shuffle=False))))
    model.compile(keras.optimizers.Adam(rate))
    return model


@pytest.mark.parametrize("stage", one_quick(STAGES, CMCLRec))
def test_backup_and_restore_resumes_at_the_epoch(stage, dataset, config, tmp_path):
    batches = dataset.batches("train", 48, shuffle=False)
    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model = build(stage, dataset, config)
    with pytest.raises(InterruptedFitError):
        model.fit(batches, epochs=3, verbose=0, callbacks=[backup(), BreakAt(2)])
    metadata = json.loads((tmp_path / "backup" / "training_metadata.json").read_text())
    assert metadata["epoch"] == 2

    again = build(stage, dataset, config)
    at_start = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: seen.append((epoch, again.get_weights()))
    )
    seen = []
    again.fit(batches, epochs=3, verbose=0, callbacks=[backup(), at_start])
    ((epoch, weights),) = seen
    assert epoch == 2 and int(again.optimizer.iterations) == 6
    for one, two in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_early_stopping_on_the_mean_of_both_segments(dataset, config):
    """`val_ndcg` is the mean of both segments, geometric; the best weights are restored."""
    model = build(CMCLRec, dataset, config)
    best = keras.callbacks.EarlyStopping(
        "val_ndcg", mode="max", patience=1, min_delta=1.0, restore_best_weights=True
    )
    first = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: first.append(model.get_weights()) if epoch == 0 else None
    )
    logs = model.fit(
        dataset.batches("train", 32),
        validation_data=dataset.batches("val", 32),
        epochs=5,
        verbose=0,
        callbacks=[keep, best],
    ).history
    # No NDCG grows by 1, so patience ends the training after the second epoch.
    assert len(logs["val_ndcg"]) == 2
    sides = np.sqrt(np.multiply(logs["val_ndcg_warm"], logs["val_ndcg_cold"]))
    np.testing.assert_allclose(logs["val_ndcg"], sides, rtol=1e-5)
    for one, two in zip(first[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("stage", STAGES)
def test_terminate_on_nan_stops_at_the_batch(stage, dataset, config):
    model = build(stage, dataset, config)
    poisoned = model.mapper.items.embeddings
    poisoned.assign(poisoned * np.nan)
    model.fit(
        dataset.batches("train", 32),
        epochs=3,
        verbose=0,
        callbacks=keras.callbacks.TerminateOnNaN(),
    )
    assert int(model.optimizer.iterations) == 1  # of nine


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_tensorboard_and_the_projector_share_a_folder(stage, dataset, config, tmp_path):
    model = build(stage, dataset, config)
    log = keras.callbacks.TensorBoard(str(tmp_path), write_graph=False, histogram_freq=1)
    shown = Projector(tmp_path, dataset.vocabularies, every=1)
    model.fit(dataset.batches("train", 48), epochs=1, verbose=0, callbacks=[log, shown])
    assert list(tmp_path.rglob("events.out.tfevents.*"))

    text = (tmp_path / "projector_config.pbtxt").read_text()
    config = text_format.Parse(text, projector.ProjectorConfig())
    entries = {entry.tensor_name: entry for entry in config.embeddings}
    assert set(entries) == {"items", *(f.name for f in FEATURES if not f.is_numeric)}
    tokens = model.mapper.tokens
    vectors = {"items": model.mapper.items.embeddings.numpy()}
    for feature in FEATURES:
        if not feature.is_numeric:
            vectors[feature.name] = tokens.table.embeddings.numpy()[tokens.rows[feature.name]]
    for name, expected in vectors.items():
        rows = np.loadtxt(tmp_path / entries[name].tensor_path, delimiter="\t", ndmin=2)
        names = (tmp_path / entries[name].metadata_path).read_text().splitlines()
        assert names == list(vocabulary.read(dataset.vocabularies[name]))
        # Id 2 is the first token of the vocabulary.
        np.testing.assert_allclose(rows, expected[2:], rtol=1e-4, atol=1e-6)


def test_projector_shows_the_most_frequent(dataset, config, tmp_path):
    model = build(Pretrain, dataset, config)
    shown = Projector(tmp_path, dataset.vocabularies, most=3)
    shown.set_model(model)
    shown.write()
    names = (tmp_path / "items_names.tsv").read_text().splitlines()
    assert names == list(vocabulary.read(dataset.vocabularies["items"]))[:3]
    assert len((tmp_path / "items.tsv").read_text().splitlines()) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _fit(progress, first_epoch, epochs, steps=2):
    """Calls the callback as `keras.Model.fit` does; returns what it shows in an epoch."""
    progress.set_params({"epochs": epochs, "steps": steps})
    progress.on_train_begin()
    for epoch in range(first_epoch, epochs - 1):
        progress.on_epoch_begin(epoch)
        for step in range(steps):
            progress.on_train_batch_begin(step)
            progress.on_train_batch_end(step)
        progress.on_epoch_end(epoch, {"loss": 1.5, "other": 2.0})
        yield
    progress.on_train_end()


def test_progress_counts_from_the_first_epoch_of_a_resumed_fit(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = Progress("stage", "loss")
    for epoch, _ in enumerate(_fit(bar, first_epoch=3, epochs=6), 3):
        assert bar.bar.n == epoch + 1
    announced, *_ = sys.stderr.getvalue().split("\n")
    assert announced == "stage: building the graph of the first step ..."


def test_progress_without_a_terminal_is_a_few_lines(monkeypatch):
    """The fit stops early: its last epoch is shown although another line was printed before."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for _ in _fit(Progress("stage", "loss"), first_epoch=0, epochs=6):
        now[0] += 4
    assert sys.stderr.getvalue().splitlines() == [
        "stage: building the graph of the first step ...",
        "stage: epoch 4/6, step 1/2, 12 s",
        "stage: epoch 5/6, loss=1.5000, 20 s",
    ]


def test_progress_can_be_turned_off(monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with without_progress():
            list(_fit(Progress("stage", "loss"), first_epoch=0, epochs=3))
        assert stream.getvalue() == ""

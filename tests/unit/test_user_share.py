"""`user_share`: a stage reads the same part of the train users from memory and from files."""

import keras
import numpy as np
import pytest

from cmclrec_tf import training
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.config import FinetuneConfig, PretrainConfig
from cmclrec_tf.data import stream
from cmclrec_tf.errors import InputError
from cmclrec_tf.fitting import users_of


def keys(batches):
    return [batch["user_key"].tolist() for batch in batches.as_numpy_iterator()]


def part(dataset, share, seed=3):
    return users_of(dataset, FinetuneConfig(user_share=share), seed)


def test_by_default_the_dataset_itself_is_read(dataset):
    for settings in (PretrainConfig(), FinetuneConfig()):
        assert users_of(dataset, settings, 3) is dataset


def test_a_share_is_part_of_a_larger_one(dataset):
    everyone = sum(keys(dataset.batches("train", 40, shuffle=False)), [])
    before = everyone
    for share in (0.7, 0.4, 0.1):
        smaller = part(dataset, share)
        users = sum(keys(smaller.batches("train", 40, shuffle=False)), [])
        assert smaller.users["train"] == len(users) == len(smaller.user_ids("train"))
        assert len(users) == pytest.approx(96 * share, abs=15)
        assert users == [key for key in before if key in set(users)]  # in the order of the files
        before = users
    # Another seed is another draw.
    other = sum(keys(part(dataset, 0.4, seed=4).batches("train", 40, shuffle=False)), [])
    assert not set(other) <= set(sum(keys(part(dataset, 0.5).batches("train", 99)), []))


def test_only_the_train_users_are_cut(dataset):
    smaller = part(dataset, 0.3)
    assert smaller.with_history(4).users == smaller.users
    assert {**smaller.users, "train": 96} == dict(dataset.users)
    for split in ("val", "test"):
        assert keys(smaller.batches(split, 64)) == keys(dataset.batches(split, 64))
    assert smaller.schema == dataset.schema


@pytest.mark.parametrize("memory", [True, False])
def test_an_epoch_of_the_stream_holds_the_share_once(dataset, monkeypatch, memory):
    if not memory:
        monkeypatch.setattr(stream, "IN_MEMORY_USERS", 10)
        monkeypatch.setattr(stream, "CHUNK", 20)
    smaller = part(dataset, 0.5)
    steps = smaller.steps("train", 16)
    assert steps == -(-smaller.users["train"] // 16) < dataset.steps("train", 16)
    two = keys(smaller.stream("train", 16, seed=5).take(2 * steps))
    n = smaller.users["train"]
    expected = sorted(sum(keys(smaller.batches("train", 16)), []))
    for epoch in (sum(two[:steps], []), sum(two[steps:], [])):
        assert len(epoch) == (16 * steps if memory else n)
        assert sorted(epoch[:n]) == expected
    assert two[steps:] == keys(smaller.stream("train", 16, seed=5, first_epoch=1).take(steps))


def test_floors_count_the_events_of_the_share(dataset):
    smaller = part(dataset, 0.2)
    assert Popularity(smaller, "last").scores.sum() == smaller.users["train"]


def test_a_share_without_users(dataset):
    with pytest.raises(InputError, match="0 of 96 train users"):
        part(dataset, 1e-6)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_shares_out_of_bounds(share):
    for settings in (PretrainConfig, FinetuneConfig):
        with pytest.raises(InputError, match="user_share"):
            settings(user_share=share)


@pytest.mark.parametrize(
    ("function", "stage"),
    [("pretrain", "pretrain"), ("fit_expert", "finetune"), ("finetune", "finetune")],
)
def test_each_fit_reads_the_share_of_its_stage(dataset, config, monkeypatch, function, stage):
    fits = []

    def fit(model, x, steps_per_epoch, **_):
        fits.append((steps_per_epoch, sum(keys(x.take(steps_per_epoch)), [])))
        return keras.callbacks.History()

    monkeypatch.setattr(keras.Model, "fit", fit)
    width = 4 if function == "fit_expert" else 0
    share = {f"{stage}.user_share": 0.5, f"{stage}.batch_size": 16, "model.expert_width": width}
    getattr(training, function)(dataset, config.changed(share))
    smaller = part(dataset, 0.5, config.seed)
    ((steps, users),) = fits
    assert steps == smaller.steps("train", 16)
    n = smaller.users["train"]
    assert sorted(users[:n]) == sorted(sum(keys(smaller.batches("train", 16)), []))
    np.testing.assert_array_less(len(users), 96)

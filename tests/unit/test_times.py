"""`model.times`: the times of events on their way from the records to the attention of HSTU."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.backbones.hstu import AGES, HSTUBlock, age_buckets
from cmclrec_tf.config import Config, ModelConfig
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.models import CMCLRec, PlainRecommender
from cmclrec_tf.schema import Feature
from cmclrec_tf.training import train_plain
from tests.unit.numpy_layers import dense, norm, silu

ANN = {
    "user_id": "ann",
    "history": ["tea", "milk", "new", "bread"],
    "history_time": [5, 7, 8, 8],
    "target": ["tea"],
    "target_time": [20],
}
BOB = {"user_id": "bob", "history": ["milk"], "history_time": [3], "target": ["tea"]}
CAT = {"user_id": "cat", "history": [], "history_time": [], "target": ["tea"]}
TRAIN = {"user_id": "dan", "history": ["tea", "milk", "bread"], "target": ["tea"]}
TIMED = {**TRAIN, "history_time": [1, 2, 3]}
CONFIG = Config.preset("tiny").changed(
    {
        "model.backbone": "hstu",
        "model.times": True,
        "model.popularity_prior": False,
        "data.max_history": 3,
        "finetune.epochs": 12,
        "finetune.epoch_steps": 8,
    }
)


def tables(records, folder, **options):
    return prepare_tables(records, [Feature("age", "numeric")], folder, **options)


def test_batches_have_the_times_of_known_items_and_of_the_request(tmp_path):
    data = tables({"train": [TIMED], "test": [ANN, BOB, CAT]}, tmp_path / "data").with_times()
    batch = next(iter(data.with_history(3).batches("test", 3)))
    # The third item of ann is not in the vocabulary, so its time counts neither.
    assert batch["history_time"].numpy().tolist() == [[5, 7, 8], [0, 0, 3], [0, 0, 0]]
    # Without a time of the target, the request is as old as the newest event.
    assert batch["now"].numpy().tolist() == [20, 3, 0]
    assert (batch["history"].numpy() > 0).tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_training_batches_cut_times_as_they_cut_histories(tmp_path):
    records = {"train": [TIMED, {**TIMED, "user_id": "eve"}]}
    data = tables(records, tmp_path / "data", max_history=20)
    batch = next(iter(data.with_times().stream("train", 2)))
    assert batch["history"].shape == batch["history_time"].shape == (2, 3)
    assert batch["history_time"].numpy()[0].tolist() == [1, 2, 3]
    assert "now" not in next(iter(data.batches("train", 2)))


def test_records_without_times_are_refused(tmp_path):
    data = tables({"train": [TRAIN]}, tmp_path / "data")
    with pytest.raises(InputError, match="must have the times of their histories"):
        data.with_times()


@pytest.mark.parametrize("times", [[1, 2], [1, 2, 3.5], 1, [1, 2, 2**63]])
def test_a_time_belongs_to_each_item(times, tmp_path):
    with pytest.raises(InputError, match="history_time of record 0 of train .* whole number"):
        tables({"train": [{**TRAIN, "history_time": times}]}, tmp_path / "data")


def test_buckets_double_in_two_steps_and_hold_every_age():
    ages = [0, 1, 3, 7, 2**40, 2**62]
    buckets = [int(age_buckets(tf.constant([[0, age]], tf.int64))[0, 0, 0]) for age in ages]
    assert buckets == [0, 2, 4, 6, 80, 124] and max(buckets) < AGES
    assert int(age_buckets(tf.constant([[9, 5]], tf.int64))[0, 0, 0]) == 0  # never negative


def test_the_bias_of_time_is_added_to_that_of_distance():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(1, 3, 8)).astype("float32"), np.ones((1, 3), bool)
    times = tf.constant([[0, 10, 40, 1000]], tf.int64)
    block = HSTUBlock(3, 8, 1, ages=AGES)
    y = block(x, mask, ages=age_buckets(times))
    u, v, q, k = np.split(silu(dense(block.project, norm(block.norm, x))), 4, axis=-1)
    distance, age = block.distance.numpy(), block.age.numpy()
    bias = np.array(
        [
            [
                distance[max(i - j, 0)]
                + age[int(2 * np.log2(1 + max(times[0, i + 1] - times[0, j], 0)))]
                for j in range(3)
            ]
            for i in range(3)
        ]
    )
    weight = silu(q @ np.swapaxes(k, -1, -2) + bias) * np.tril(np.ones((3, 3))) / 3
    expected = x + dense(block.out, norm(block.attended_norm, weight @ v) * u)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(y, block(x, mask), atol=1e-4)


def test_a_state_knows_the_time_of_the_next_item_and_no_later_one():
    backbone = backbones.create("hstu", 4, ModelConfig(width=8, heads=2, times=True, dropout=0.0))
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(1, 4, 8)).astype("float32"), np.ones((1, 4), bool)
    times = np.array([[0, 10, 40, 1000, 5000]])
    g = np.asarray(backbone(x, mask, times=tf.constant(times)))
    for changed in range(1, 5):
        later = times + np.where(np.arange(5) >= changed, 10**6, 0)
        other = np.asarray(backbone(x, mask, times=tf.constant(later)))
        np.testing.assert_allclose(other[:, : changed - 1], g[:, : changed - 1], atol=1e-6)
        assert not np.allclose(other[:, changed - 1], g[:, changed - 1], atol=1e-5)
    np.testing.assert_allclose(
        backbone.state(x, mask, times=tf.constant(times)), g[:, -1], rtol=1e-5, atol=1e-6
    )


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """Users who take one item after a short wait and another after a long one."""
    rng = np.random.default_rng(0)

    def user(name):
        waits = rng.integers(2, size=4)
        times = np.cumsum(np.where(waits, 10_000, 1)).tolist()
        items = ["late" if wait else "soon" for wait in waits]
        return {
            "user_id": name,
            "history": items[:-1],
            "history_time": times[:-1],
            "target": items[-1:],
            "target_time": times[-1:],
        }

    sizes = {"train": 64, "val": 32, "test": 64}
    records = {s: [user(f"{s}{i}") for i in range(size)] for s, size in sizes.items()}
    return tables(records, tmp_path_factory.mktemp("waiting") / "data", max_history=3)


def test_a_model_with_times_learns_what_only_they_say(waiting):
    config = CONFIG.changed({"evaluate.seen_items": "keep"})
    trained = train_plain(waiting, config)
    right = [evaluate(trained, waiting, ks=(1,)).rows["warm"]["recall@1"]]
    blind = train_plain(waiting, config.changed({"model.times": False}))
    right.append(evaluate(blind, waiting, ks=(1,)).rows["warm"]["recall@1"])
    assert right[0] > 0.95 and right[1] < 0.8


def test_times_that_a_model_does_not_read_change_nothing(waiting):
    model = PlainRecommender(waiting.schema, CONFIG.changed({"model.times": False}))
    for data in (waiting, waiting.with_times()):
        batch = next(iter(data.batches("test", 8)))
        states = model(batch), *model.warm_and_cold_states(batch)
        assert all(np.isfinite(g).all() for g in states)
    np.testing.assert_array_equal(states[0], states[1])


@pytest.mark.slow
def test_a_file_keeps_the_biases_of_time(waiting, tmp_path):
    model = PlainRecommender(waiting.schema, CONFIG)
    batch = next(iter(waiting.with_times().batches("test", 8)))
    model(batch)
    for block in model.backbone.blocks:
        block.age.assign(np.linspace(-1, 1, AGES))
    expected = np.asarray(model(batch))
    model.save(tmp_path / "model.keras")
    folder = waiting.files["test"][0].rsplit("/", 2)[0]
    code = (
        "import keras, numpy, cmclrec_tf as cm;"
        f"data = cm.PreparedDataset.load({folder!r}).with_times();"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r});"
        f"numpy.save({str(tmp_path / 'g.npy')!r}, model(next(iter(data.batches('test', 8)))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "g.npy"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "changes", "rule"),
    [
        (PlainRecommender, {"model.backbone": "sasrec"}, r"\['hstu'\] read times"),
        (PlainRecommender, {"model.popularity_prior": True}, "the prior is fitted to states"),
        (CMCLRec, {}, "a simulated history has no times"),
    ],
)
def test_what_cannot_read_times_says_so(build, changes, rule, waiting):
    with pytest.raises(InputError, match=rule):
        build(waiting.schema, CONFIG.changed(changes))

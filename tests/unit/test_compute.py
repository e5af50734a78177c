"""`compute`: precision and XLA change how a training computes, and the shapes of its batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import gpu, training_speed
from cmclrec_tf.baselines.training import train_baseline
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.models import CMCLRec, PlainRecommender
from cmclrec_tf.training import averaged_adam, train, train_plain

BATCH = 36  # does not divide the 96 train users


@pytest.fixture(scope="module", params=[False, True])
def stream(request, dataset):
    return dataset.stream("train", BATCH, seed=4, one_shape=request.param)


def users(batches):
    return np.concatenate([batch["user_key"] for batch in batches.as_numpy_iterator()])


def test_the_last_batch_is_filled_with_users_of_the_epoch(dataset, stream):
    steps, n = dataset.steps("train", BATCH), dataset.users["train"]
    first = users(stream.take(steps))
    assert len(first) == steps * BATCH > n
    everyone = users(dataset.batches("train", n))
    assert sorted(first[:n]) == sorted(everyone)
    np.testing.assert_array_equal(first[n:], first[: len(first) - n])
    second = users(dataset.stream("train", BATCH, 4, first_epoch=1).take(steps))
    np.testing.assert_array_equal(users(stream.skip(steps).take(steps)), second)
    assert first.tolist() != second.tolist()


def test_batches_of_one_shape_have_it_before_they_are_read(dataset):
    stream = dataset.stream("train", BATCH, seed=4, one_shape=True)
    shapes = tf.nest.map_structure(lambda spec: spec.shape.as_list(), stream.element_spec)
    assert shapes["history"] == [BATCH, dataset.max_history]
    assert None not in tf.nest.flatten(shapes)
    for batch in stream.take(4):
        assert tf.nest.map_structure(lambda x: x.shape.as_list(), batch) == shapes
    # The user with most values of a feature sets its width.
    whole = next(iter(dataset.batches("train", dataset.users["train"])))["features"]
    values = np.count_nonzero(whole["tags"], axis=1)
    assert shapes["features"]["tags"][1] == values.max() > values.min()


def test_fewer_users_than_a_batch_are_one_batch(dataset):
    few = dataset.with_train_users(lambda keys: keys % 8 == 0)
    n = few.users["train"]
    assert 0 < 2 * n < BATCH
    (batch,) = few.stream("train", BATCH, one_shape=True).take(1).as_numpy_iterator()
    assert sorted(batch["user_key"]) == sorted(users(few.batches("train", n)))


@pytest.mark.parametrize("softmax", ["sampled", "chunked"])
def test_the_loss_over_all_positions_is_that_over_the_known_ones(dataset, config, softmax):
    batch = next(iter(dataset.batches("train", 32, shuffle=False)))
    model = CMCLRec(dataset.schema, config.changed({"finetune.softmax": softmax}))
    model(batch)
    x = keras.random.normal((*batch["history"].shape, config.model.width), seed=1)
    values = {}
    for jit_compile in (False, True):
        model.jit_compile = jit_compile
        model.seed.state.assign([0, 0])
        rows = tf.cast(batch["history"][:, -1] > 0, "float32")
        loss = model.history_loss(x, batch["history"], batch["target"], rows, training=True)
        values[jit_compile] = float(loss)
    assert values[False] == pytest.approx(values[True], rel=1e-5)
    assert values[True] > 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_xla_trains_both_stages_to_the_same_quality(model, dataset, config, precision, tmp_path):
    way = {"compute.precision": precision, "compute.jit_compile": "always"}
    compiled = train(dataset, config.changed({**way, "model.expert_width": 4}))
    assert keras.config.dtype_policy().name == "float32"  # left as it was
    assert compiled.dtype_policy.name == precision
    assert compiled.backbone.compute_dtype == precision.removeprefix("mixed_")
    assert compiled.jit_compile and not model.jit_compile
    rows, expected = (evaluate(m, dataset, ks=(5,)).rows for m in (compiled, model))
    for segment in ("warm", "cold"):
        assert rows[segment]["ndcg@5"] > expected[segment]["ndcg@5"] - 0.1
    compiled.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config.compute == compiled.config.compute
    assert evaluate(again, dataset, ks=(5,)).rows == rows


@pytest.mark.slow
def test_the_backbone_alone_compiles(dataset, config):
    model = train_plain(dataset, config.changed({"compute.jit_compile": "always"}))
    assert model.jit_compile and evaluate(model, dataset, ks=(5,)).rows["warm"]["ndcg@5"] > 0.4


def test_baselines_refuse_the_setting_too(dataset, config):
    half = config.changed({"compute.precision": "mixed_float16"})
    with pytest.raises(InputError, match="^melu under the dtype policy 'mixed_float16'"):
        train_baseline("melu", dataset, half)


@pytest.mark.parametrize(
    "values, text",
    [
        ({"precision": "float16"}, "precision='float16': it must be one of"),
        ({"jit_compile": True}, "jit_compile=True: it must be of type str"),
        ({"jit_compile": "yes"}, "jit_compile='yes': it must be one of"),
    ],
)
def test_other_values_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        Config.from_dict({"compute": values})


def test_products_of_a_step_are_counted(dataset, config):
    """SASRec's last position: Q, K and V everywhere, the rest once, and all items."""
    cell = gpu.Cell("SASRec", "float32", "never", width=16, length=8, batch=32)
    changes = {**cell.changes, "model.blocks": 1, "model.heads": 2}
    model = training_speed.compiled(PlainRecommender, averaged_adam, dataset, changes)
    d, n, items = 16, 8, dataset.schema.items
    projections = (3 * n + 1 + 2 + 2) * 2 * d**2
    forward = projections + 2 * 2 * n * d + 2 * items * d
    assert gpu.product_flops(model, dataset) == 32 * 3 * forward  # twice as much backward

"""The backbone contract, checked on every registered backbone and on the example of the docs."""

import dataclasses
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.backbones import base
from cmclrec_tf.backbones.mclrec import MCLRec
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.config.sections import BACKBONES
from cmclrec_tf.errors import InputError
from tests.unit.layer_harness import arrays, copy_of, half_precision, run_layer_test

NAMES = backbones.names()
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "backbones.md"
EXAMPLE = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S).group(1)
exec(compile(EXAMPLE, str(DOCS), "exec"), {})
KINDS = {name: base._REGISTRY[name] for name in backbones.names()}
base._REGISTRY.pop("fading")
BACKBONES.discard("fading")

LENGTH = 6
CONFIG = ModelConfig(width=8, heads=2, blocks=2, dropout=0.0)
DROPPING = ModelConfig(width=8, heads=2, blocks=2, dropout=0.5)
X, OTHER = np.random.default_rng(0).normal(size=(2, 3, LENGTH, 8)).astype("float32")
MASK = np.array([[0, 0, 1, 1, 1, 1], [1] * LENGTH, [0] * LENGTH], bool)


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def built():
    """One backbone of each kind for all tests that leave its weights alone."""
    backbone_of = {}
    for name, cls in KINDS.items():
        keras.utils.set_random_seed(1)
        backbone_of[cls] = cls(LENGTH, CONFIG, name=name)
        backbone_of[cls](X, MASK)
        for weight in backbone_of[cls].trainable_weights:
            # With a bias of 0, padding could leak and nobody would notice.
            if len(weight.shape) == 1 or "bias" in weight.path:
                weight.assign(weight + keras.random.normal(weight.shape, stddev=0.1, seed=2))
    return backbone_of


@pytest.fixture
def backbone(kind, built):
    return built[kind]


def outputs_of(backbone, x, mask, **kwargs):
    """The outputs of `call`, and of `cloze` where there is one."""
    functions = [backbone] if backbone.causal else [backbone, backbone.cloze]
    return [function(x, mask, **kwargs) for function in functions]


def test_the_state_is_the_newest_position(backbone):
    g = np.asarray(backbone(X, MASK))[:, -1]
    np.testing.assert_allclose(backbone.state(X, MASK), g, rtol=1e-4, atol=1e-6)


def test_shape_zeros_at_padding_and_finite_even_without_a_history(backbone):
    for g in arrays(outputs_of(backbone, X, MASK)):
        assert g.shape == X.shape and np.all(np.isfinite(g))
        assert np.all(g[~MASK] == 0) and np.all(np.abs(g[MASK]).max(axis=-1) > 0)


def test_causal_or_both_sides_seen(backbone):
    slot, mask = np.arange(LENGTH), np.ones((LENGTH, LENGTH), bool)
    # Row t of `newer` has other items after t; row t of `older` has another item at t.
    newer = np.where((slot[None, :] > slot[:, None])[:, :, None], OTHER[1], X[1])
    older = np.where(np.eye(LENGTH, dtype=bool)[:, :, None], OTHER[1], X[1])
    states_of = backbone if backbone.causal else backbone.cloze
    before, after = np.asarray(backbone(X, MASK))[1], np.asarray(states_of(newer, mask))
    if not backbone.causal:
        before = np.asarray(backbone.cloze(X, MASK))[1]
    for t in range(LENGTH - 1):
        if backbone.causal:
            np.testing.assert_allclose(after[t, : t + 1], before[: t + 1], atol=1e-5)
            assert not np.allclose(after[t, t + 1], before[t + 1], atol=1e-3)
        else:
            assert not np.allclose(after[t, t], before[t], atol=1e-3)
    # The newest state sees more than the newest item.
    last = np.asarray(states_of(older, mask))[:, -1]
    assert not np.allclose(last[-2], before[-1], atol=1e-4)
    if not backbone.causal:
        assert np.all(np.abs(last - before[-1]).max(axis=1) > 1e-3)


def test_left_padding_changes_nothing(backbone):
    expected = arrays(outputs_of(backbone, X, MASK))
    filled = np.where(MASK[:, :, None], X, np.float32(np.nan))
    filled[0, 0], filled[2, 3] = 1e30, 5.0
    for one, two in zip(expected, arrays(outputs_of(backbone, filled, MASK)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    shorter = arrays(outputs_of(backbone, X[:1, 2:], MASK[:1, 2:]))
    for one, two in zip(expected, shorter, strict=True):
        np.testing.assert_allclose(one[0, 2:], two[0], atol=1e-5)


def test_a_user_alone_has_the_same_states(backbone):
    alone = arrays(outputs_of(backbone, X[:1], MASK[:1]))
    for one, two in zip(arrays(outputs_of(backbone, X, MASK)), alone, strict=True):
        np.testing.assert_allclose(one[:1], two, atol=1e-5)


def test_training_differs_by_dropout_only(backbone, kind):
    for one, two in zip(
        outputs_of(backbone, X, MASK), outputs_of(backbone, X, MASK, training=True), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-5)
    dropping = kind(LENGTH, DROPPING)
    dropping(X, MASK)
    dropping.set_weights(backbone.get_weights())
    np.testing.assert_allclose(dropping(X, MASK), backbone(X, MASK), atol=1e-5)
    assert not np.allclose(dropping(X, MASK, training=True)[1], backbone(X, MASK)[1], atol=1e-3)


def test_gradients_reach_every_weight_and_the_input(backbone):
    direction = np.random.default_rng(1).normal(size=X.shape).astype("float32")
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = sum(
            tf.reduce_sum(g * direction) for g in outputs_of(backbone, x, MASK, training=True)
        )
        loss += backbone.auxiliary_loss(x, MASK)
    sources = {"x": x, **{weight.path: weight.value for weight in backbone.trainable_weights}}
    for path, gradient in tape.gradient(loss, sources).items():
        assert gradient is not None, path
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        assert np.any(gradient) and np.all(np.isfinite(gradient)), path


def test_harness(backbone, kind, tmp_path):
    # `call` of MCLRec does not use what its auxiliary loss trains.
    idle = ("augmenter", "mask_vector") if kind is MCLRec else ()
    run_layer_test(backbone, (X, MASK), tmp_path, idle=idle)


def test_half_precision_is_finite_and_close(backbone):
    with half_precision():
        half = copy_of(backbone, (X, MASK))
    for one, two in zip(outputs_of(half, X, MASK), outputs_of(backbone, X, MASK), strict=True):
        assert one.dtype == "float16"
        np.testing.assert_allclose(np.asarray(one, "float32"), two, atol=3e-2)
    for g in arrays([*outputs_of(half, 30 * X, MASK), half.auxiliary_loss(30 * X, MASK)]):
        assert np.all(np.isfinite(g))


def test_compiles_with_xla_for_any_number_of_users(kind):
    backbone = kind(LENGTH, dataclasses.replace(CONFIG, blocks=1))
    backbone(X, MASK)
    signature = [tf.TensorSpec([None, LENGTH, 8]), tf.TensorSpec([None, LENGTH], "bool")]

    @tf.function(input_signature=signature, jit_compile=True)
    def compiled(x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            states = outputs_of(backbone, x, mask, training=True)
            loss = sum(tf.reduce_sum(tf.sin(g)) for g in states)
        return states, tape.gradient(loss, x), backbone.auxiliary_loss(x, mask)

    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = outputs_of(backbone, x, MASK)
        loss = sum(tf.reduce_sum(tf.sin(g)) for g in expected)
    states, slope, auxiliary = compiled(X, MASK)
    for one, two in zip(states, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    np.testing.assert_allclose(slope, tape.gradient(loss, x), atol=1e-3)
    assert np.isfinite(auxiliary)


def walks():
    """Walks around a circle of twelve items, in both directions.

    The next item does not follow from the newest item alone.
    """
    rows = [
        [-1] * (8 - n) + [(start + direction * step) % 12 for step in range(n + 1)]
        for start in range(12)
        for direction in (1, -1)
        for n in range(2, 9)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    return np.array(rows)[order]  # [B, 8 + 1], -1 pads


def test_learns_the_direction_of_a_walk(kind):
    keras.utils.set_random_seed(3)
    rng, rows = np.random.default_rng(1), walks()
    train, test = rows[40:], rows[:40]
    backbone = kind(8, ModelConfig(width=16, heads=2, blocks=1, dropout=0.0))
    table = keras.Variable(rng.normal(size=(12, 16)) / 4, dtype="float32")
    embed = lambda ids: tf.gather(table.value, tf.maximum(ids, 0))
    score = lambda g: tf.matmul(g, table.value, transpose_b=True)
    backbone(embed(test[:, 1:]), test[:, 1:] >= 0)
    optimizer = keras.optimizers.Adam(0.02)
    weights = [table, *backbone.trainable_weights]
    optimizer.build(weights)

    @tf.function
    def step(ids, labels, hidden):
        with tf.GradientTape() as tape:
            x, mask = embed(ids), ids >= 0
            if backbone.causal:
                g = backbone(x, mask, training=True)
            else:
                x = tf.where(hidden[:, :, None], backbone.mask_vector.value, x)
                g = backbone.cloze(x, mask, training=True)
            counted = tf.cast(mask & hidden, "float32")
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), score(g))
            loss = tf.reduce_sum(loss * counted) / tf.reduce_sum(counted)
            loss += backbone.auxiliary_loss(x, mask)
        optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]))

    for _ in range(6):
        for _ in range(25):
            if backbone.causal:
                step(train[:, :-1], train[:, 1:], np.ones((len(train), 8), bool))
            else:
                hidden = rng.random((len(train), 8)) < 0.2
                hidden[:, -1] = True
                step(train[:, 1:], train[:, 1:], hidden)
        history = test[:, :-1]
        scores = score(backbone(embed(history), history >= 0)[:, -1])
        accuracy = np.mean(np.argmax(scores, axis=1) == test[:, -1])
        if accuracy > 0.95:
            break
    assert accuracy > 0.9


def test_names_and_causality_by_name():
    assert sorted(set(NAMES)) == NAMES and {"sasrec", "bert4rec", "hstu"} <= set(NAMES)
    assert backbones.is_causal("sasrec") and not backbones.is_causal("bert4rec")
    assert all(hasattr(cls, "cloze") != cls.causal for cls in KINDS.values())


@pytest.mark.parametrize("lookup", [backbones.is_causal, lambda n: backbones.create(n, 6, CONFIG)])
def test_unknown_name(lookup):
    with pytest.raises(InputError, match="backbones are.*sasrec"):
        lookup("nothing")

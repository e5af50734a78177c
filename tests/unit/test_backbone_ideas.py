"""The idea of each backbone's paper, recomputed in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.backbones import mclrec
from cmclrec_tf.backbones.hstu import HSTUBlock
from cmclrec_tf.backbones.ligr import LiGRBlock
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.session_graph import GatedPropagation, SessionGraph
from cmclrec_tf.losses.contrastive_regularisation import contrastive_regularisation
from tests.unit.numpy_layers import dense, norm, sigmoid, silu

CONFIG = ModelConfig(width=8, heads=2, blocks=1, dropout=0.0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 8)).astype("float32")
MASK = np.array([[0, 0, 1, 1, 1, 1, 1], [1] * 7], bool)
SEEN = np.tril(np.ones((7, 7), bool))[None] & MASK[:, None, :]


def randomised(layer, *inputs):
    """Builds the layer and adds noise to its weights, so that none is left at 0 or 1."""
    layer(*inputs)
    for weight in layer.trainable_weights:
        noise = RNG.normal(size=weight.shape) * 0.3
        weight.assign(weight.numpy() + noise)
    return layer


def heads(x, parts):
    """[B, n, parts * 2 * 4] -> [parts, 2 heads, B, n, 4]."""
    return np.moveaxis(x.reshape(2, 7, parts, 2, 4), (2, 3), (0, 1))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_softmax_of_scaled_products(causal):
    layer = randomised(MultiHeadAttention(8, 2, causal=causal), X, MASK)
    q, k, v = heads(dense(layer.project, X), 3)
    seen = SEEN if causal else np.broadcast_to(MASK[:, None, :], SEEN.shape)
    weight = np.exp(q @ np.swapaxes(k, -1, -2) / 2) * seen
    y = weight / np.maximum(weight.sum(-1, keepdims=True), 1e-30) @ v  # [H, B, n, d]
    expected = dense(layer.out, np.concatenate(list(y), axis=-1))
    np.testing.assert_allclose(layer(X, MASK)[MASK], expected[MASK], rtol=1e-4, atol=1e-5)


def test_ligr_gates_both_residuals():
    block = randomised(LiGRBlock(8, 2), X, MASK)
    attended = np.asarray(block.attention(norm(block.attention_norm, X).astype("float32"), MASK))
    x = X + attended * sigmoid(dense(block.attention_gate, X))
    gate, value = np.split(dense(block.inner, norm(block.inner_norm, x)), 2, axis=-1)
    x = x + dense(block.outer, silu(gate) * value) * sigmoid(dense(block.inner_gate, x))
    np.testing.assert_allclose(block(X, MASK)[MASK], x[MASK], rtol=1e-3, atol=1e-4)


def test_hstu_is_pointwise_attention_gated_by_u():
    block = randomised(HSTUBlock(9, 8, 2), X, MASK)  # longest length 9
    u, v, q, k = heads(silu(dense(block.project, norm(block.norm, X))), 4)
    distance = block.distance.numpy()
    bias = np.array([[distance[max(i - j, 0)] for j in range(7)] for i in range(7)])
    weight = silu(q @ np.swapaxes(k, -1, -2) + bias) * SEEN / 9
    attended, u = (np.concatenate(list(part), axis=-1) for part in (weight @ v, u))
    expected = X + dense(block.out, norm(block.attended_norm, attended) * u)
    np.testing.assert_allclose(block(X, MASK)[MASK], expected[MASK], rtol=1e-3, atol=1e-4)


def test_gru4rec_reads_only_the_real_items():
    backbone = randomised(backbones.create("gru4rec", 7, CONFIG), X, MASK)
    alone = backbone.recurrent[0](X[:1, 2:])
    np.testing.assert_allclose(backbone(X, MASK)[0, 2:], backbone.out(alone)[0], atol=1e-5)


def test_caser_convolves_the_window_of_each_position():
    backbone = randomised(backbones.create("caser", 7, CONFIG), X, MASK)
    output = np.asarray(backbone(X, MASK))
    for b, t in zip(*np.nonzero(MASK), strict=True):
        items = X[b, : t + 1][MASK[b, : t + 1]][-5:]
        window = np.concatenate([np.zeros((5 - len(items), 8)), items])  # [W, D], oldest first
        features = []
        for height, conv in enumerate(backbone.horizontal, start=1):
            kernel, bias = conv.kernel.numpy(), conv.bias.numpy()  # [h, D, F], [F]
            ends = [e for e in range(height, 6) if e > 5 - len(items)]  # filters on real items
            answers = [np.tensordot(window[e - height : e], kernel, 2) + bias for e in ends]
            features.append(np.maximum(answers, 0).max(axis=0))
        features.append((window[::-1].T @ backbone.vertical.kernel.numpy()).reshape(-1))
        inner = np.maximum(dense(backbone.inner, np.concatenate(features)), 0)
        np.testing.assert_allclose(output[b, t], dense(backbone.out, inner), rtol=1e-3, atol=1e-4)


def test_sr_gnn_propagates_on_the_session_graph_of_each_prefix():
    ids = np.array([3, 1, 3, 1, 2, 3, 1])
    items = np.eye(8, dtype="float32") * 2.0
    graph, step = SessionGraph(), GatedPropagation(8)
    x, mask = items[ids][None], np.ones((1, 7), bool)
    randomised(step, x, *graph(x, mask))
    output = np.asarray(step(x, *graph(x, mask)))[0]
    for t in range(7):
        nodes = list(dict.fromkeys(ids[: t + 1]))
        follows = np.zeros((len(nodes), len(nodes)))
        for one, two in zip(ids[:t], ids[1 : t + 1], strict=True):
            follows[nodes.index(one), nodes.index(two)] += 1
        out = follows / np.maximum(follows.sum(1, keepdims=True), 1)
        into = follows.T / np.maximum(follows.T.sum(1, keepdims=True), 1)
        h = items[nodes]
        a = [into @ dense(step.incoming, h), out @ dense(step.outgoing, h)]
        z, r = np.split(sigmoid(dense(step.gates, np.concatenate([*a, h], 1))), 2, axis=1)
        new = np.tanh(dense(step.candidate, np.concatenate([*a, r * h], 1)))
        expected = ((1 - z) * h + z * new)[nodes.index(ids[t])]
        np.testing.assert_allclose(output[t], expected, rtol=1e-3, atol=1e-4)


def test_sr_gnn_reads_out_the_newest_node_and_a_weighted_mean():
    backbone = randomised(backbones.create("sr_gnn", 7, CONFIG), X, MASK)
    v = np.asarray(backbone.propagation(X * MASK[:, :, None], *backbone.graph(X, MASK)))
    for b in range(2):
        real = v[b, MASK[b]]
        compared = sigmoid(dense(backbone.newest, real[-1]) + dense(backbone.each, real))
        alpha = dense(backbone.weight, compared)  # [items, 1]
        expected = dense(backbone.out, np.concatenate([real[-1], (alpha * real).mean(axis=0)]))
        np.testing.assert_allclose(backbone(X, MASK)[b, -1], expected, rtol=1e-3, atol=1e-4)


def test_a_graph_of_unlike_vectors_is_a_chain():
    x = np.eye(7, 8, dtype="float32")[None]
    into, out = SessionGraph()(x, np.ones((1, 7), bool))
    np.testing.assert_allclose(into[0], np.eye(7, k=-1), atol=1e-6)
    np.testing.assert_allclose(out[0], np.zeros((7, 7)), atol=1e-6)


def test_bert4rec_reads_the_state_of_the_mask_vector():
    backbone = randomised(backbones.create("bert4rec", 7, CONFIG), X, MASK)
    history = np.where(MASK[:, :, None], X, 0.0)[:1]
    longer = np.concatenate([history[:, 1:], backbone.mask_vector.numpy()[None, None]], axis=1)
    real = np.concatenate([MASK[:1, 1:], [[True]]], axis=1)
    hidden = backbone.cloze(longer, real)  # what training on a hidden newest item sees
    np.testing.assert_allclose(backbone(X, MASK)[0, 2:], hidden[0, 2:], atol=1e-5)


def test_mclrec_views_are_rearrangements():
    keras.utils.set_random_seed(0)
    backbone = randomised(backbones.create("mclrec", 7, CONFIG), X, MASK)
    vector, kinds = backbone.mask_vector.numpy(), set()
    users, masks = np.tile(X, (10, 1, 1)), np.tile(MASK, (10, 1))
    for x, mask in backbone.views(users, masks):
        x, mask = np.asarray(x), np.asarray(mask)
        assert np.all(x[~mask] == 0)
        for b in range(20):
            real, places = users[b, masks[b]], []
            for row in x[b, mask[b]]:
                near = np.abs(real - row).max(axis=1) < 1e-6
                assert near.any() or np.allclose(row, vector)
                places.append(int(np.argmax(near)) if near.any() else -1)
            if -1 in places:
                kinds.add("mask")
            elif places != sorted(places):
                kinds.add("reorder")
            elif len(places) < len(real):
                kinds.add("crop")
    assert kinds == {"mask", "crop", "reorder"}


def test_mclrec_regularisation_by_hand():
    one, two, count = X[:, -1], X[:, 0], np.array([1.0, 1.0], "float32")
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, two)]
    s, total = unit[0] @ unit[1].T, 0.0
    for k in range(2):
        low, high = min(s[k, k], s[k, 1 - k]), max(s[k, k], s[k, 1 - k])
        total += (s[k, k] - low + high - s[k, 1 - k]) / 2
    output = contrastive_regularisation(one, two, count)
    np.testing.assert_allclose(output, total, rtol=1e-4)
    alone = contrastive_regularisation(one, two, np.array([1.0, 0.0], "float32"))
    assert float(alone) == 0.0


def test_mclrec_regularisation_reaches_the_augmenters_only(monkeypatch):
    monkeypatch.setattr(mclrec, "STOCHASTIC", 0.0)
    monkeypatch.setattr(mclrec, "LEARNED", 0.0)
    backbone = randomised(backbones.create("mclrec", 7, CONFIG), X, MASK)
    with tf.GradientTape() as tape:
        loss = backbone.auxiliary_loss(X, MASK)
    values = {weight.path: weight.value for weight in backbone.trainable_weights}
    slopes = tape.gradient(loss, values, unconnected_gradients="zero")
    reached = {path for path, slope in slopes.items() if np.any(slope)}
    assert reached and all("augmenter" in path for path in reached)


def test_mclrec_auxiliary_loss_falls_when_it_is_trained():
    keras.utils.set_random_seed(0)
    backbone = backbones.create("mclrec", 7, CONFIG)
    x, mask = RNG.normal(size=(16, 7, 8)).astype("float32"), np.ones((16, 7), bool)
    backbone(x, mask)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(backbone.trainable_weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = backbone.auxiliary_loss(x, mask)
        values = [weight.value for weight in backbone.trainable_weights]
        optimizer.apply(tape.gradient(loss, values, unconnected_gradients="zero"))
        return loss

    losses = [float(step()) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    alone = backbone.auxiliary_loss(x, np.zeros((16, 7), bool))
    assert float(alone) == 0.0

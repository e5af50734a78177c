"""The layers of Eqs. (2) and (5)-(8) against NumPy, and every layer in the harness."""

import numpy as np
import pytest

from cmclrec_tf.backbones.hstu import HSTUBlock
from cmclrec_tf.backbones.ligr import LiGRBlock
from cmclrec_tf.layers.attention import MultiHeadAttention
from cmclrec_tf.layers.autoencoder import Autoencoder
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.feature_encoder import FeatureEncoder, FeatureTokens
from cmclrec_tf.layers.self_attention import SelfAttention
from cmclrec_tf.layers.sequence_encoder import SequenceEncoder
from cmclrec_tf.layers.session_graph import GatedPropagation, SessionGraph
from cmclrec_tf.layers.transformer_block import Positions, TransformerBlock
from cmclrec_tf.schema import MULTI, NUMERIC, Feature
from tests.unit.layer_harness import run_layer_test
from tests.unit.numpy_layers import dense, gelu, norm, softmax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 8)).astype("float32")
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_equations_5_to_7(causal):
    layer = SelfAttention(8, causal)
    output = np.asarray(layer(X, MASK))
    for b in range(3):
        one, two, three = (X[b] @ m.kernel.numpy() for m in (layer.m1, layer.m2, layer.m3))
        for i in range(5):
            if not MASK[b, i]:
                assert np.all(output[b, i] == 0)
                continue
            seen = [j for j in range(5) if MASK[b, j] and (j <= i or not causal)]
            weights = np.exp([one[i] @ two[j] / np.sqrt(8) for j in seen])
            expected = sum(w * three[j] for w, j in zip(weights, seen, strict=True))
            np.testing.assert_allclose(output[b, i], expected / weights.sum(), rtol=2e-4, atol=1e-5)


def test_psi_f_is_a_residual_mlp_over_all_fields():
    layer = FeatureEncoder(5, 8)
    output = layer(X)
    flat = norm(layer.norm, X).reshape(3, 40)
    expected = X + dense(layer.outer, gelu(dense(layer.inner, flat))).reshape(3, 5, 8)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_psi_s_is_a_transformer(causal):
    layer = SequenceEncoder(5, 8, blocks=2, heads=2, causal=causal)
    output = np.asarray(layer(X, MASK))
    x = (X + layer.positions.table.numpy()) * MASK[:, :, None]
    allowed = MASK[:, None, :] & (np.tril(np.ones((5, 5), bool)) if causal else True)
    for block in layer.blocks:
        mha, y = block.attention, norm(block.attention_norm, x)
        parts = dense(mha.project, y).reshape(3, 5, 3, 2, 4)  # [B, L, Q K V, H, d]
        query, key, value = np.moveaxis(parts, (2, 3), (0, 2))
        logits = np.einsum("bhie,bhje->bhij", query, key) / np.sqrt(4)
        alpha = softmax(np.where(allowed[:, None], logits, -1e9))
        y = np.einsum("bhij,bhje->bihe", alpha, value).reshape(3, 5, 8)
        x = x + dense(mha.out, y)
        x = x + dense(block.outer, gelu(dense(block.inner, norm(block.inner_norm, x))))
        x = x * MASK[:, :, None]
    expected = norm(layer.norm, x) * MASK[:, :, None]
    np.testing.assert_allclose(output[MASK], expected[MASK], rtol=1e-3, atol=1e-4)
    assert np.all(output[~MASK] == 0)


def test_psi_s_hides_masked_items_behind_one_vector():
    layer = SequenceEncoder(5, 8)
    masked = np.zeros((3, 5), bool)
    masked[1, 2] = True
    other = X.copy()
    other[1, 2] = 7.0
    np.testing.assert_allclose(layer(X, MASK, masked), layer(other, MASK, masked), rtol=1e-6)
    assert not np.allclose(layer(X, MASK, masked)[1], layer(X, MASK)[1])


def test_autoencoder_is_equation_8():
    layer = Autoencoder(5, 8, 4)
    output = layer(X, MASK)

    def two_layers(mlp, x):
        return dense(mlp.layers[1], gelu(dense(mlp.layers[0], x)))

    code = two_layers(layer.encoder, (X * MASK[:, :, None]).reshape(3, 40))
    np.testing.assert_allclose(layer.encode(X, MASK), code, rtol=1e-4, atol=1e-5)
    expected = two_layers(layer.decoder, code).reshape(3, 5, 8)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


FEATURES = (
    Feature("n", NUMERIC, mean=10.0, scale=2.0),
    Feature("c", size=4),
    Feature("m", MULTI, size=5),
)
VALUES = {
    "n": np.array([[12.0], [np.nan], [np.inf]], "float32"),
    "c": np.array([[3], [0], [1]]),
    "m": np.array([[2, 4], [0, 0], [3, 0]]),
}


def test_tokens_look_up_average_and_standardise():
    layer = FeatureTokens(FEATURES, 8)
    output = layer(VALUES)
    number, table = layer.number_layers["n"], layer.table.embeddings.numpy()
    category, many = table[layer.rows["c"]], table[layer.rows["m"]]
    standard = np.array([[1.0]])  # (12 - 10) / 2
    expected = dense(number.layers[1], gelu(dense(number.layers[0], standard)))[0]
    np.testing.assert_allclose(output[0, 0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(output[0, 1], category[3], rtol=1e-6)
    np.testing.assert_allclose(output[0, 2], many[[2, 4]].mean(0), rtol=1e-5)
    np.testing.assert_allclose(output[2, 2], many[3], rtol=1e-5)


def test_missing_unknown_and_masked_fields_are_the_fields_learned_vector():
    layer = FeatureTokens(FEATURES, 8)
    output = np.asarray(layer(VALUES, np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)))
    vectors = layer.mask_vectors.numpy()
    np.testing.assert_allclose(output[1], vectors, rtol=1e-6)  # all missing
    np.testing.assert_allclose(output[2, :2], vectors[:2], rtol=1e-6)  # not finite; unknown value
    np.testing.assert_allclose(output[0, 2], vectors[2], rtol=1e-6)  # masked
    assert not np.allclose(vectors[0], 0) and not np.allclose(vectors[0], vectors[1])


HIDDEN = MASK & (np.arange(5) == 3)
EDGES = RNG.uniform(size=(3, 5, 5)).astype("float32")
BLOCK = 2 * 2 * 8 + 8 * 24 + 24 + 8 * 8 + 8  # two norms, Q K V and the output of attention


@pytest.mark.parametrize(
    ("layer", "inputs", "count"),
    [
        (Dense(7, activation="gelu"), (X,), 8 * 7 + 7),
        (SelfAttention(8, True), (X, MASK), 3 * 8 * 8),
        (MultiHeadAttention(8, 2), (X, MASK), 8 * 24 + 24 + 8 * 8 + 8),
        (TransformerBlock(8, 2), (X, MASK), BLOCK + 2 * 8 * 16 + 16 + 8),
        (LiGRBlock(8, 2), (X, MASK), BLOCK + 8 * 64 + 32 * 8 + 2 * (8 * 8 + 8)),
        (HSTUBlock(5, 8, 2), (X, MASK), BLOCK + 8 * 8 + 8 + 5),
        (Positions(6, 8), (X,), 6 * 8),
        (FeatureEncoder(5, 8), (X,), 2 * 8 + 40 * 32 + 32 + 32 * 40 + 40),
        (
            SequenceEncoder(5, 8, heads=2),
            (X, MASK, HIDDEN),
            BLOCK + 2 * 8 * 16 + 24 + 5 * 8 + 2 * 8 + 8,
        ),
        (Autoencoder(5, 8, 4), (X, MASK), 40 * 8 + 8 + 8 * 4 + 4 + 4 * 8 + 8 + 8 * 40 + 40),
        (FeatureTokens(FEATURES, 8), (VALUES,), 8 + 8 + 8 * 8 + 8 + 4 * 8 + 5 * 8 + 3 * 8),
        (SessionGraph(), (X, MASK), 1),
        (GatedPropagation(8), (X, EDGES, EDGES), 2 * (8 * 8 + 8) + 3 * (24 * 8 + 8)),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "call") else "",
)
def test_harness(layer, inputs, count, tmp_path):
    run_layer_test(layer, inputs, tmp_path, count)

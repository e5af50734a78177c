"""Eqs. (2) and (5)-(8), recomputed from the layers' weights in NumPy."""

import math

import keras
import numpy as np
import pytest

from cmclrec_tf.layers.autoencoder import Autoencoder
from cmclrec_tf.layers.feature_encoder import FeatureEncoder, FeatureTokens
from cmclrec_tf.layers.self_attention import SelfAttention
from cmclrec_tf.layers.sequence_encoder import SequenceEncoder
from cmclrec_tf.schema import MULTI, NUMERIC, Feature

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 8)).astype("float32")
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


def dense(layer, x):
    out = x @ layer.kernel.numpy()
    return out + layer.bias.numpy() if layer.use_bias else out


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2


def norm(layer, x):
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return z * layer.gamma.numpy() + layer.beta.numpy()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_equations_5_to_7(causal):
    layer = SelfAttention(8, causal)
    got = np.asarray(layer(X, MASK))
    for b in range(3):
        one, two, three = (X[b] @ m.kernel.numpy() for m in (layer.m1, layer.m2, layer.m3))
        for i in range(5):
            if not MASK[b, i]:
                assert np.all(got[b, i] == 0)
                continue
            seen = [j for j in range(5) if MASK[b, j] and (j <= i or not causal)]
            weights = np.exp([one[i] @ two[j] / np.sqrt(8) for j in seen])
            expected = sum(w * three[j] for w, j in zip(weights, seen, strict=True))
            np.testing.assert_allclose(got[b, i], expected / weights.sum(), rtol=2e-4, atol=1e-5)


def test_psi_f_is_a_residual_mlp_over_all_fields():
    layer = FeatureEncoder(5, 8)
    got = layer(X)
    flat = norm(layer.norm, X).reshape(3, 40)
    expected = X + dense(layer.outer, gelu(dense(layer.inner, flat))).reshape(3, 5, 8)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_psi_s_is_a_transformer(causal):
    layer = SequenceEncoder(5, 8, blocks=2, heads=2, causal=causal)
    got = np.asarray(layer(X, MASK))
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
    np.testing.assert_allclose(got[MASK], expected[MASK], rtol=1e-3, atol=1e-4)
    assert np.all(got[~MASK] == 0)


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
    got = layer(X, MASK)

    def two_layers(mlp, x):
        return dense(mlp.layers[1], gelu(dense(mlp.layers[0], x)))

    code = two_layers(layer.encoder, (X * MASK[:, :, None]).reshape(3, 40))
    np.testing.assert_allclose(layer.encode(X, MASK), code, rtol=1e-4, atol=1e-5)
    expected = two_layers(layer.decoder, code).reshape(3, 5, 8)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


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
    got = layer(VALUES)
    number, category, many = layer.value_layers
    standard = np.array([[1.0]])  # (12 - 10) / 2
    expected = dense(number.layers[1], gelu(dense(number.layers[0], standard)))[0]
    np.testing.assert_allclose(got[0, 0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got[0, 1], category.embeddings.numpy()[3], rtol=1e-6)
    np.testing.assert_allclose(got[0, 2], many.embeddings.numpy()[[2, 4]].mean(0), rtol=1e-5)
    np.testing.assert_allclose(got[2, 2], many.embeddings.numpy()[3], rtol=1e-5)


def test_missing_unknown_and_masked_fields_are_the_fields_learned_vector():
    layer = FeatureTokens(FEATURES, 8)
    got = np.asarray(layer(VALUES, np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)))
    vectors = layer.mask_vectors.numpy()
    np.testing.assert_allclose(got[1], vectors, rtol=1e-6)  # all missing
    np.testing.assert_allclose(got[2, :2], vectors[:2], rtol=1e-6)  # not finite; unknown value
    np.testing.assert_allclose(got[0, 2], vectors[2], rtol=1e-6)  # masked
    assert not np.allclose(vectors[0], 0) and not np.allclose(vectors[0], vectors[1])


@pytest.mark.parametrize(
    "layer",
    [
        SelfAttention(8, True),
        FeatureEncoder(5, 8),
        SequenceEncoder(5, 8, heads=2),
        Autoencoder(5, 8, 4),
        FeatureTokens(FEATURES, 8),
    ],
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()

"""The recommendation losses against Eq. (14), and the sampler against Zipf's law."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.losses.chunked_next_item import chunked_next_item
from cmclrec_tf.losses.next_item import next_item, soft_next_item
from cmclrec_tf.losses.sampled_next_item import sample_zipf, sampled_next_item

RNG = np.random.default_rng(0)


def test_equals_the_equation():
    """Eq. (14), one position at a time."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 3, 7)).astype("float32")
    labels = np.array([[2, 6, 4], [3, 3, 5]])
    expected = [
        [-(scores[b, t, labels[b, t]] - np.log(np.exp(scores[b, t]).sum())) for t in range(3)]
        for b in range(2)
    ]
    np.testing.assert_allclose(next_item(scores, labels), expected, rtol=1e-5)


def test_padding_and_unknown_items_have_no_loss():
    assert np.all(next_item(np.zeros((2, 5), "float32"), np.array([0, 1])).numpy() == 0)


def test_large_scores_stay_finite():
    scores = np.array([[0.0, 0.0, 3e4, -3e4]], "float32")
    np.testing.assert_allclose(next_item(scores, np.array([3])), [6e4], rtol=1e-6)


def problem(n=23, items=11, width=4):
    """States, table with PAD and OOV rows, bias, labels (one unknown) and weights (one 0)."""
    states, table = RNG.normal(size=(n, width)), RNG.normal(size=(items + 2, width))
    labels = RNG.integers(2, items + 2, n)
    labels[3] = 1
    weights = RNG.uniform(0.5, 2.0, n)
    weights[5] = 0.0
    bias = RNG.normal(size=items + 2)
    return [x.astype("float32") for x in (states, table, bias)], labels, weights.astype("float32")


def exact(states, table, bias, labels, weights):
    """The weighted sum in float64, position by position."""
    total = 0.0
    for g, label, weight in zip(states, labels, weights, strict=True):
        if label >= 2:
            scores = (table @ g + bias)[2:].astype("float64")
            total += weight * (np.log(np.exp(scores).sum()) - scores[label - 2])
    return total


@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_chunked_is_exact_for_any_chunk(rows):
    floats, labels, weights = problem()
    loss = chunked_next_item(*floats, labels, weights, rows=rows)
    np.testing.assert_allclose(loss, exact(*floats, labels, weights), rtol=1e-5)


def test_chunked_gradients_are_those_of_the_full_softmax():
    floats, labels, weights = problem()
    variables = [tf.Variable(x) for x in floats]
    with tf.GradientTape(persistent=True) as tape:
        states, table, bias = variables
        one = 3.0 * chunked_next_item(states, table, bias, labels, weights, rows=7)
        scores = tf.matmul(states, table, transpose_b=True) + bias
        scores = tf.where(tf.range(scores.shape[1]) > 1, scores, -1e9)
        two = 3.0 * tf.reduce_sum(weights * next_item(scores, labels))
    for a, b in zip(tape.gradient(one, variables), tape.gradient(two, variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [5, 23])
def test_chunked_compiles_with_xla_and_has_the_same_gradients(rows):
    """The last chunk is smaller than the others, for which XLA has no shape."""
    floats, labels, weights = problem()

    def values(states, table, bias):
        with tf.GradientTape() as tape:
            tape.watch([states, table, bias])
            loss = chunked_next_item(states, table, bias, labels, weights, rows=rows)
        return loss, *tape.gradient(loss, [states, table, bias])

    floats = list(map(tf.constant, floats))
    compiled = tf.function(values, jit_compile=True)(*floats)
    for a, b in zip(compiled, values(*floats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_chunked_of_no_position_is_zero():
    floats, labels, weights = problem()
    loss = chunked_next_item(floats[0][:0], *floats[1:], labels[:0], weights[:0], rows=5)
    assert float(loss) == 0


def test_chunked_compiles_with_an_unknown_number_of_positions():
    floats, labels, weights = problem()
    spec = [
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([13, 4]),
        tf.TensorSpec([13]),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None]),
    ]
    compiled = tf.function(chunked_next_item, input_signature=spec)
    np.testing.assert_allclose(
        compiled(*floats, labels, weights), exact(*floats, labels, weights), rtol=1e-5
    )


def test_sampled_agrees_with_exact_when_the_sample_is_large():
    """With the log-Q correction the sampled sum of exponentials is an unbiased estimate."""
    floats, labels, weights = problem()
    negatives, log_q = sample_zipf(200_000, 13, keras.random.SeedGenerator(0))
    loss = sampled_next_item(*floats, labels, weights, negatives, log_q)
    np.testing.assert_allclose(loss, exact(*floats, labels, weights), rtol=0.02)
    uncorrected = sampled_next_item(*floats, labels, weights, negatives, tf.zeros_like(log_q))
    assert abs(uncorrected - exact(*floats, labels, weights)) > 1.0


def test_sampled_leaves_out_negatives_that_are_the_label():
    states, table, bias = np.ones((1, 2), "f"), np.ones((5, 2), "f"), np.zeros(5, "f")
    loss = sampled_next_item(
        states, table, bias, np.array([3]), np.ones(1, "f"), np.array([3, 3]), bias
    )
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_samples_follow_zipfs_law():
    ids, log_p = sample_zipf(100_000, 9, keras.random.SeedGenerator(0))
    share = np.bincount(ids, minlength=9) / 100_000
    assert share[:2].sum() == 0
    rank = np.arange(7)
    expected = np.log((rank + 2) / (rank + 1)) / np.log(8)
    np.testing.assert_allclose(expected.sum(), 1.0)
    np.testing.assert_allclose(share[2:], expected, atol=0.01)
    np.testing.assert_allclose(log_p[2:], np.log(expected), rtol=1e-5)


def test_soft_answers_are_the_mean_over_hard_ones():
    scores = RNG.normal(size=(1, 6)).astype("float32")
    shares = np.array([[0, 0, 0.25, 0, 0.75, 0]], "float32")
    hard = [float(next_item(scores, np.array([label]))[0]) for label in (2, 4)]
    np.testing.assert_allclose(
        soft_next_item(scores, shares), [0.25 * hard[0] + 0.75 * hard[1]], rtol=1e-5
    )
    assert soft_next_item(scores, 0 * shares)[0] == 0  # nothing known, nothing learned

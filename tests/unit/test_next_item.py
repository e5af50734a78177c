import numpy as np

from cmclrec_tf.losses.next_item import next_item


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


def test_padding_and_unknown_items_give_nothing():
    assert np.all(next_item(np.zeros((2, 5), "float32"), np.array([0, 1])).numpy() == 0)


def test_large_scores_stay_finite():
    scores = np.array([[0.0, 0.0, 3e4, -3e4]], "float32")
    np.testing.assert_allclose(next_item(scores, np.array([3])), [6e4], rtol=1e-6)

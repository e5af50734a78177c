"""InfoNCE against Eqs. (3) and (4) as loops."""

import numpy as np
import pytest

from cmclrec_tf.losses.info_nce import info_nce

TAU = 0.3


def oracle(view1, view2, keys, counted):
    """Eqs. (3), (4) as loops."""
    total = []
    for k in np.flatnonzero(counted):
        terms = []
        for t in range(len(view2)):
            if t != k and (keys[t] == keys[k] or not counted[t]):
                continue
            cosine = view1[k] @ view2[t] / np.linalg.norm(view1[k]) / np.linalg.norm(view2[t])
            terms.append(np.exp(cosine / TAU))
            if t == k:
                positive = terms[-1]
        total.append(-np.log(positive / sum(terms)))
    return np.mean(total)


@pytest.fixture
def views():
    return np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")


def test_equals_the_equation(views):
    loss = info_nce(*views, TAU)
    np.testing.assert_allclose(loss, oracle(*views, np.arange(6), np.ones(6)), rtol=1e-5)


def test_equal_keys_are_not_negatives(views):
    keys = np.array([1, 2, 1, 3, 2, 4])
    loss = info_nce(*views, TAU, keys=keys)
    np.testing.assert_allclose(loss, oracle(*views, keys, np.ones(6)), rtol=1e-5)
    assert loss < info_nce(*views, TAU)


def test_rows_without_weight_count_on_neither_side(views):
    weights = np.array([1, 0, 1, 1, 0, 1], "float32")
    loss = info_nce(*views, TAU, weights=weights)
    np.testing.assert_allclose(loss, oracle(*views, np.arange(6), weights), rtol=1e-5)
    assert info_nce(*views, TAU, weights=np.zeros(6, "float32")) == 0


def test_does_not_depend_on_the_order_of_users(views):
    order = np.random.default_rng(1).permutation(6)
    np.testing.assert_allclose(info_nce(*views[:, order], TAU), info_nce(*views, TAU), rtol=1e-5)


def test_one_profile_for_all_users_leaves_no_negative(views):
    np.testing.assert_allclose(info_nce(*views, TAU, keys=np.zeros(6, int)), 0.0, atol=1e-6)

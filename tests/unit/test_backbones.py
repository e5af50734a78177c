"""The backbone contract; every registered backbone must keep it."""

import keras
import numpy as np
import pytest

from cmclrec_tf import backbones
from cmclrec_tf.backbones import base
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.errors import InputError

CONFIG = ModelConfig(width=8, heads=2, blocks=2)
X = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
MASK = np.array([[0, 0, 1, 1, 1, 1], [1] * 6, [0] * 6], bool)


@pytest.fixture(params=sorted(base._REGISTRY))
def backbone(request):
    return backbones.create(request.param, 6, CONFIG)


def test_shape_and_no_nan_even_without_a_history(backbone):
    g = np.asarray(backbone(X, MASK))
    assert g.shape == X.shape and np.all(np.isfinite(g))


def test_causal(backbone):
    changed = X.copy()
    changed[:, 4:] = 9.0
    one, two = np.asarray(backbone(X, MASK)), np.asarray(backbone(changed, MASK))
    np.testing.assert_allclose(one[:, :4], two[:, :4], atol=1e-5)
    assert not np.allclose(one[1, 4:], two[1, 4:], atol=1e-3)


def test_indifferent_to_left_padding(backbone):
    changed = np.where(MASK[:, :, None], X, 5.0)
    padded, other = np.asarray(backbone(X, MASK)), np.asarray(backbone(changed, MASK))
    shorter = np.asarray(backbone(X[:1, 2:], MASK[:1, 2:]))
    np.testing.assert_allclose(padded[:, -1], other[:, -1], atol=1e-5)
    np.testing.assert_allclose(padded[0, 2:], shorter[0], atol=1e-5)


def test_unknown_name():
    with pytest.raises(InputError, match="backbones are.*sasrec"):
        backbones.create("nothing", 6, CONFIG)


def test_serialisable(backbone):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(backbone))
    assert type(again) is type(backbone) and again.get_config() == backbone.get_config()

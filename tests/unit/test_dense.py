"""The dense layer computes what Keras's does, without a gradient for every row of the batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.layers.dense import Dense


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_equals_keras_dense(shape):
    x = tf.constant(np.random.default_rng(0).normal(size=shape).astype("float32"))
    ours, theirs = Dense(7, activation="gelu"), keras.layers.Dense(7, activation="gelu")
    ours(x), theirs(x)
    theirs.set_weights(ours.get_weights())
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, layer.trainable_weights)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_no_gradient_holds_a_matrix_for_every_row():
    layer = Dense(7)
    layer.build((None, None, 5))

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    graph = gradient.get_concrete_function(tf.TensorSpec([3, 4, 5])).graph
    assert not [op.name for op in graph.get_operations() if "BatchMatMul" in op.type]

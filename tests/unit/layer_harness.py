"""One harness for layers and backbones: weight count, saving, a training step, half precision."""

import contextlib

import keras
import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def half_precision():
    """Layers that are built within it compute in float16."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def run_layer_test(layer, inputs, folder, count=None, idle=()):
    """Checks what every layer owes its users; leaves its weights alone.

    Args:
        layer: a layer, built or not.
        inputs: the arguments of its `call`, arrays or dicts of arrays.
        folder: where a model with the layer may be saved.
        count: the expected number of parameters; None for any.
        idle: parts of the paths of weights that `call` does not train.
    """
    outputs = arrays(layer(*inputs))
    assert count is None or layer.count_params() == count
    check_config(layer, inputs, outputs)
    check_saving(layer, inputs, outputs, folder / "model.keras")
    check_half_precision(layer, inputs, outputs)
    check_training_step(layer, inputs, outputs, idle)


def arrays(tensors):
    """The tensors of a structure, as a flat list of float32 arrays."""
    return [np.asarray(tensor, "float32") for tensor in tf.nest.flatten(tensors)]


def assert_close(outputs, expected, atol=1e-6):
    for output, array in zip(arrays(outputs), expected, strict=True):
        assert np.all(np.isfinite(output))
        np.testing.assert_allclose(output, array, atol=atol)


def copy_of(layer, inputs):
    """A layer of the same config and weights, under the current precision."""
    config = layer.get_config()
    config["dtype"] = keras.config.dtype_policy().name
    copy = type(layer).from_config(config)
    copy(*inputs)
    copy.set_weights(layer.get_weights())
    return copy


def model_of(layer, inputs):
    symbols = tf.nest.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype), inputs)
    return keras.Model(tf.nest.flatten(symbols), layer(*symbols))


def check_config(layer, inputs, outputs):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer) and copy.get_config() == layer.get_config()
    copy(*inputs)
    copy.set_weights(layer.get_weights())
    assert_close(copy(*inputs), outputs)


def check_saving(layer, inputs, outputs, path):
    model_of(layer, inputs).save(path)
    loaded = keras.saving.load_model(path)
    assert_close(loaded(tf.nest.flatten(inputs)), outputs)
    inner = next(part for part in loaded.layers if type(part) is type(layer))
    for one, two in zip(inner.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def check_half_precision(layer, inputs, outputs):
    with half_precision():
        half = copy_of(layer, inputs)(*inputs)
    assert {tensor.dtype for tensor in tf.nest.flatten(half)} == {tf.float16}
    assert_close(half, outputs, atol=3e-2)


def check_training_step(layer, inputs, outputs, idle):
    """One step of `fit` moves every weight that `call` trains."""
    layer = copy_of(layer, inputs)
    before = layer.get_weights()
    model = model_of(layer, inputs)
    model.compile(keras.optimizers.Adam(0.01), ["mse"] * len(outputs), run_eagerly=True)
    rng = np.random.default_rng(1)
    targets = [rng.normal(size=output.shape).astype("float32") for output in outputs]
    history = model.fit(tf.nest.flatten(inputs), targets, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    for weight, old in zip(layer.weights, before, strict=True):
        trained = weight.trainable and not any(name in weight.path for name in idle)
        assert not trained or np.any(weight.numpy() != old), weight.path

"""Every public model is made from a preset, and survives `get_config` and a `.keras` file."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import CMCLRec, CrossModalMapper, PlainRecommender, Pretrain
from tests.conftest import one_quick

# name: (class, built from schema and config)
MODELS = {
    "Pretrain": (Pretrain, Pretrain),
    "CMCLRec": (CMCLRec, CMCLRec),
    "PlainRecommender": (PlainRecommender, PlainRecommender),
    "CrossModalMapper": (
        CrossModalMapper,
        lambda schema, config: CrossModalMapper(schema, config.model, config.data.max_history),
    ),
}
pytestmark = pytest.mark.usefixtures("eager")
STAGED = [name for name in MODELS if name != "CrossModalMapper"]


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32, shuffle=False)))


@pytest.fixture(params=["float32", "mixed_float16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def build(name, dataset, config, batch):
    model = MODELS[name][1](dataset.schema, config)
    model(batch)
    return model


def flat(outputs):
    return [np.asarray(part, "float32") for part in tf.nest.flatten(outputs)]


@pytest.mark.parametrize("name", MODELS)
def test_get_config_round_trip(name, dataset, config, policy):
    model = MODELS[name][1](dataset.schema, config)
    keras.config.set_dtype_policy("float32")
    again = MODELS[name][0].from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert again.dtype_policy.name == policy and again.name == model.name
    assert keras.config.dtype_policy().name == "float32"  # left as it was


@pytest.mark.parametrize("name", MODELS)
def test_keras_file_keeps_outputs_and_precision(name, dataset, config, batch, policy, tmp_path):
    model = build(name, dataset, config, batch)
    expected = model(batch)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    output = again(batch)
    for one, two in zip(flat(expected), flat(output), strict=True):
        np.testing.assert_array_equal(one, two)
    dtypes = [part.dtype for part in tf.nest.flatten(output)]
    assert dtypes == [part.dtype for part in tf.nest.flatten(expected)]
    assert {v.dtype for v in again.trainable_variables} == {"float32"}


@pytest.mark.parametrize("name", STAGED)
def test_keras_file_after_a_fit_resumes_as_the_model_does(name, dataset, config, batch, tmp_path):
    """Optimizer slots and iterations are saved, so the next step is the same."""
    model = build(name, dataset, config, batch)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(dataset.batches("train", 32, seed=1), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 3
    slots = zip(model.optimizer.variables, again.optimizer.variables, strict=True)
    for one, two in slots:
        np.testing.assert_array_equal(one, two)
    # The views of Eq. (1) draw from the seed's state, which a `.keras` file does not hold.
    again.seed.state.assign(model.seed.state)
    for each in (model, again):
        each.train_on_batch(batch)
    for one, two in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", one_quick(STAGED, "CMCLRec"))
@pytest.mark.usefixtures("eager")
def test_mixed_precision_resumes_after_a_reload(name, dataset, config, batch, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(name, dataset, config, batch)
        model.compile(keras.optimizers.Adam(0.01))
        model.fit(dataset.batches("train", 32), epochs=1, verbose=0)
        model.save(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(again.optimizer.dynamic_scale) == float(model.optimizer.dynamic_scale)
    losses = again.fit(dataset.batches("train", 32), epochs=1, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))


@pytest.mark.parametrize("name", MODELS)
def test_from_preset(name, dataset):
    model = MODELS[name][0].from_preset("tiny", dataset.schema)
    preset = Config.preset("tiny")
    assert model.config == (preset.model if name == "CrossModalMapper" else preset)
    batches = dataset.with_history(8).batches("train", 4)
    batch = next(iter(batches))
    history = tf.pad(batch["history"], [[0, 0], [preset.data.max_history - 8, 0]])
    output = model({**batch, "history": history})
    prior = 2 if name in ("CMCLRec", "PlainRecommender") else 0
    assert tf.nest.flatten(output)[0].shape[-1] == preset.model.width + prior
    with pytest.raises(InputError, match="presets are"):
        MODELS[name][0].from_preset("huge", dataset.schema)


@pytest.mark.parametrize(
    "imports",
    [
        "import cmclrec_tf, keras",
        pytest.param("import keras, cmclrec_tf", marks=pytest.mark.slow),
    ],
)
def test_a_new_process_loads_a_keras_file_after_the_import(
    imports, dataset, config, batch, tmp_path
):
    path = tmp_path / "model.keras"
    build("CMCLRec", dataset, config, batch).save(path)
    code = f"{imports}; print(type(keras.saving.load_model({str(path)!r})).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.split()[-1] == "cmclrec_tf.models.cmclrec"

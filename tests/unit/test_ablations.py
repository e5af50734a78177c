"""The ablations of section 4.4: their losses and parts, and that each trains and is saved."""

import dataclasses

import keras
import numpy as np
import pytest

from cmclrec_tf.config import ABLATIONS
from cmclrec_tf.models import CMCLRec, Pretrain, ablations
from cmclrec_tf.training import train
from tests.conftest import one_quick

CONTRAST = {"loss/features", "loss/sequences"}
TRANSLATION = {"loss/translation"}
REST = {"loss/reconstruction_history", "loss/reconstruction_features", "loss/mmd"}


def changed(config, name, **model):
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, mapper=name, **model)
    )


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32)))


def mapper_of(name, dataset, config, batch, **model):
    config = changed(config, name, **model)
    mapper = ablations.create(dataset.schema, config.model, config.data.max_history)
    mapper(batch)
    return mapper


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full", CONTRAST | REST | TRANSLATION),
        ("NoDA", REST | TRANSLATION),
        ("NoCL", CONTRAST | TRANSLATION),
        ("None", TRANSLATION),
    ],
)
def test_each_ablation_has_its_losses(name, expected, dataset, config, batch):
    model = Pretrain(dataset.schema, changed(config, name))
    losses = model.losses_of(batch)
    assert set(losses) == expected | {"loss/pretrain", "loss"}
    assert float(losses["loss"]) > 0


def test_without_augmentation_attention_reads_item_embeddings(dataset, config, batch):
    mapper = mapper_of("NoDA", dataset, config, batch, history_path="mapped")
    history = batch["history"]
    real = np.asarray(history) != 0
    expected = mapper.attention_s(mapper.items(history) * real[:, :, None], real)
    np.testing.assert_allclose(mapper.history_side(history), expected, atol=1e-6)
    tokens = mapper.tokens(batch["features"])
    np.testing.assert_allclose(mapper.encode_features(batch["features"]), tokens)


@pytest.mark.parametrize("name", ["NoCL", "None"])
def test_without_cross_modal_learning_the_map_is_linear(name, dataset, config, batch):
    mapper = mapper_of(name, dataset, config, batch)
    a, b = keras.random.normal((2, *mapper.feature_side(batch["features"]).shape), seed=1)
    step = mapper.simulate(a + b) - mapper.simulate(b)
    np.testing.assert_allclose(step, mapper.simulate(a) - mapper.simulate(0 * a), atol=1e-5)


def test_without_both_modules_a_history_is_its_item_embeddings(dataset, config, batch):
    for path in ("mapped", "residual"):
        mapper = mapper_of("None", dataset, config, batch, history_path=path)
        real = np.asarray(batch["history"])[:, :, None] != 0
        expected = mapper.items(batch["history"]) * real
        np.testing.assert_allclose(mapper.history_side(batch["history"]), expected)


@pytest.mark.parametrize("name", one_quick(ABLATIONS, "None"))
@pytest.mark.usefixtures("eager")
def test_each_ablation_trains_and_is_saved(name, dataset, config, batch, tmp_path):
    short = dataclasses.replace(
        changed(config, name),
        pretrain=dataclasses.replace(config.pretrain, epochs=0),
        # With the loss of stage 1, so that one training covers both.
        finetune=dataclasses.replace(config.finetune, epochs=1, eta=0.1),
    )
    model = train(dataset, short)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, CMCLRec) and type(loaded.mapper) is ablations.MAPPERS[name]
    cold = {**batch, "is_cold": np.ones(32, bool), "history": 0 * batch["history"]}
    for users in (batch, cold):
        np.testing.assert_allclose(loaded(users), model(users), atol=1e-6)

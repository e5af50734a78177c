"""The plain recommender: a backbone without the mapper."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.models import PlainRecommender
from cmclrec_tf.models.prior import NEUTRAL
from cmclrec_tf.models.prior_fit import fit_prior
from cmclrec_tf.training import train_plain


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32)))


def build(dataset, config, batch, **model):
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
    built = PlainRecommender(dataset.schema, config)
    built(batch)
    return built


def test_train_plain_learns_warm_users(dataset, config):
    trained = train_plain(dataset, config)
    rows = evaluate(trained, dataset, ks=(5, 10)).rows
    assert rows["warm"]["recall@5"] > 0.8  # the next step of a walk
    assert rows["cold"]["jaccard@10"] == 1.0  # one list for all cold users


def test_user_features_do_not_matter(dataset, config, batch):
    model = build(dataset, config, batch)
    mixed = {n: v[::-1] for n, v in batch["features"].items()}
    np.testing.assert_array_equal(model(batch), model({**batch, "features": mixed}))


def test_with_a_prior_the_scores_hold_popularity(dataset, config, batch):
    """The coefficients are those that `fit_prior` finds; without the setting there is no prior."""
    trained = train_plain(dataset, config)
    alone = build(dataset, config, batch, popularity_prior=False)
    assert alone.prior is None
    alone.items.set_weights(trained.items.get_weights())
    alone.backbone.set_weights(trained.backbone.get_weights())
    states, embeddings = np.asarray(alone(batch)), np.asarray(trained(batch))
    assert embeddings.shape[1] == states.shape[1] + 2
    vectors = np.concatenate([np.asarray(v) for v in trained.item_variables], axis=1)
    scores = np.asarray(trained.score(embeddings))[:, 2:]
    np.testing.assert_allclose(scores, (embeddings @ vectors.T)[:, 2:], atol=1e-4)
    assert np.abs(scores - alone.score(states)[:, 2:]).max() > 1e-3
    fitted = np.array(trained.prior.coefficients)
    trained.prior.coefficients.assign([NEUTRAL] * 2)
    np.testing.assert_allclose(trained.score(trained(batch)), alone.score(states), atol=1e-4)
    fit_prior(trained, dataset)
    np.testing.assert_allclose(trained.prior.coefficients, fitted, atol=1e-3)


def test_a_cold_user_is_one_with_an_empty_history(dataset, config, batch):
    model = build(dataset, config, batch)
    cold = model({**batch, "is_cold": np.full(32, True)})
    empty = model({**batch, "history": np.zeros_like(batch["history"])})
    np.testing.assert_array_equal(cold, empty)
    np.testing.assert_array_equal(cold, model.cold_states(batch["features"]))


def test_the_loss_is_equation_14_on_every_position(dataset, config, batch):
    model = build(dataset, config, batch)
    history, target = batch["history"].numpy(), batch["target"].numpy()
    g = np.asarray(model.backbone(model.embed(history), history != 0))
    scores = np.asarray(model.score(g), "float64")
    losses = []
    for row in range(32):
        items = [*history[row], target[row, 0]]
        for at in range(8):
            if items[at] and items[at + 1] >= 2:
                s = scores[row, at, 2:]
                losses.append(np.log(np.exp(s).sum()) - s[items[at + 1] - 2])
    np.testing.assert_allclose(model.losses_of(batch)["loss"], np.mean(losses), rtol=1e-4)


CASES = [("sasrec", "full"), ("sasrec", "chunked"), *((n, "sampled") for n in backbones.names())]


@pytest.mark.parametrize(("name", "softmax"), CASES)
def test_every_backbone_trains_alone(dataset, config, batch, name, softmax):
    finetune = dataclasses.replace(config.finetune, softmax=softmax)
    model = build(dataset, dataclasses.replace(config, finetune=finetune), batch, backbone=name)
    adam = keras.optimizers.Adam(0.01)
    losses = []
    for _ in range(8):
        with tf.GradientTape() as tape:
            losses.append(model.losses_of(batch, training=True)["loss"])
        gradients = tape.gradient(losses[-1], model.trainable_variables)
        adam.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]

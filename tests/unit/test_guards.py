"""Silent failures of training: collapse, a loss without gradient, unusual batches."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.models import CMCLRec, Pretrain
from cmclrec_tf.models.pretrain import pretrain_losses


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32, shuffle=False)))


def spread(model, dataset):
    """Returns the variance over users of the newest position of T_s, mean over D."""
    batch = next(iter(dataset.batches("val", 32)))
    return np.asarray(model.mapper(batch)[0])[:, -1].var(axis=0).mean()


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_fixed_targets_keep_users_apart_and_moving_ones_alone_do_not(dataset, config):
    """With only the reconstructions to minimise, moving targets shrink T_s."""
    spreads = {}
    for targets in ("fixed", "move"):
        settings = dataclasses.replace(config.pretrain, targets=targets, alpha=0.0, beta=0.0)
        keras.utils.set_random_seed(0)
        shape = dataclasses.replace(config.model, history_path="mapped")
        model = Pretrain(
            dataset.schema, dataclasses.replace(config, pretrain=settings, model=shape)
        )
        model(next(iter(dataset.batches("train", 32))))
        before = spread(model, dataset)
        model.compile(keras.optimizers.Adam(0.01))
        stream = dataset.stream("train", 32, seed=0)
        model.fit(stream, steps_per_epoch=16, epochs=1, verbose=0)
        spreads[targets] = spread(model, dataset) / before
    assert spreads["fixed"] > 0.5 > 0.2 > spreads["move"]


def test_mmd_has_a_gradient_at_initialisation(dataset, config, batch):
    """A bandwidth far from the distances of the codes would leave none."""
    model = Pretrain(dataset.schema, config)
    model(batch)
    codes = [*model.mapper.auto_f.encoder.weights, *model.mapper.auto_s.encoder.weights]
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch)["loss/mmd"]
    gradients = tape.gradient(loss, [v.value for v in codes])
    kernels = [g for g, v in zip(gradients, codes, strict=True) if "kernel" in v.path]
    assert len(kernels) == 4 and all(np.abs(g).max() > 1e-6 for g in kernels)


@pytest.mark.parametrize("stage", [Pretrain, CMCLRec])
@pytest.mark.parametrize("rows", [1, 7])
def test_a_short_last_batch_trains(stage, dataset, config, batch, rows):
    model = stage(dataset.schema, config)
    model(batch)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    short = tf.nest.map_structure(lambda t: t[:rows], batch)
    assert np.isfinite(model.train_on_batch(short, return_dict=True)["loss"])
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())


def gradients_of(model, batch, names):
    """Returns the losses, and the gradient of the sum of the named ones by every weight."""
    with tf.GradientTape() as tape:
        losses = model.losses_of(batch, training=True)
        total = sum(losses[name] for name in names)
    weights = [v.value for v in model.trainable_variables]
    return losses, [
        np.zeros(v.shape) if g is None else np.asarray(tf.convert_to_tensor(g))
        for g, v in zip(tape.gradient(total, weights), weights, strict=True)
    ]


def test_an_all_cold_batch_teaches_stage_1_nothing(dataset, config, batch):
    model = Pretrain(dataset.schema, config)
    model(batch)
    cold = {
        **batch,
        "is_cold": tf.ones(32, tf.bool),
        "history": tf.zeros_like(batch["history"]),
    }
    losses, gradients = gradients_of(model, cold, ["loss"])
    assert all(np.isfinite(v) for v in losses.values())
    assert all(np.array_equal(g, np.zeros_like(g)) for g in gradients)


@pytest.mark.parametrize("cold", [True, False])
def test_batches_of_one_segment_train_stage_2(dataset, config, batch, cold):
    """An all-cold batch trains nothing on the history side, an all-warm one nothing else."""
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, sequence="either"),
        finetune=dataclasses.replace(config.finetune, cold_share=0.0, eta=0.0, feature_dropout=0.0),
    )
    model = CMCLRec(dataset.schema, config)
    model(batch)
    one = {**batch, "is_cold": tf.fill([32], cold)}
    losses, gradients = gradients_of(model, one, ["loss/next_item"])
    assert all(np.isfinite(v) for v in losses.values())
    largest = {}
    for v, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.all(np.isfinite(gradient))
        for side in ("psi_s", "attention_s", "psi_f", "attention_f"):
            if f"/{side}/" in v.path:
                largest[side] = max(largest.get(side, 0.0), np.abs(gradient).max())
    used = ("psi_f", "attention_f") if cold else ("psi_s", "attention_s")
    assert {side for side, size in largest.items() if size > 0} == set(used)


def test_users_with_the_same_profile_are_no_negatives(dataset, config, batch):
    """With equal profiles Eq. (3) has positives only, and is exactly 0."""
    model = Pretrain(dataset.schema, config)
    same = {**batch, "features": {n: tf.repeat(v[:1], 32, 0) for n, v in batch["features"].items()}}
    same["profile_key"] = tf.repeat(batch["profile_key"][:1], 32)
    mapped, seed = model(same), keras.random.SeedGenerator(0)
    losses = pretrain_losses(model.mapper, same, mapped, config.pretrain, seed)
    assert float(losses["loss/features"]) == pytest.approx(0.0, abs=1e-6)
    assert float(losses["loss/sequences"]) > 0.1


def cold_lists(model, dataset):
    """Returns coverage and mean similarity of the cold test users' five best items."""
    rows = evaluate(model, dataset, ks=(5,)).rows["cold"]
    return rows["coverage@5"], rows["jaccard@5"]


def test_cold_lists_follow_the_profile_and_their_collapse_shows(model, dataset, config, batch):
    coverage, jaccard = cold_lists(model, dataset)
    assert coverage > 5 and jaccard < 0.9
    broken = CMCLRec(dataset.schema, config)
    broken(batch)
    broken.set_weights(model.get_weights())
    assert cold_lists(broken, dataset) == (coverage, pytest.approx(jaccard))
    # If the profile no longer reaches the simulated history, all users get one list.
    for weight in broken.mapper.auto_f.trainable_weights:
        weight.assign(weight * 0)
    assert cold_lists(broken, dataset) == (5, pytest.approx(1.0))

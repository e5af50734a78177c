"""Stage 1: Eqs. (8), (9), (11) and (15) from their named parts, and invariants of the mapper."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.losses.info_nce import info_nce
from cmclrec_tf.losses.mmd import mmd
from cmclrec_tf.losses.reconstruction import reconstruction
from cmclrec_tf.models import Pretrain
from cmclrec_tf.models.pretrain import masked_mean, pretrain_losses


@pytest.fixture(scope="module")
def batch(dataset):
    return next(iter(dataset.batches("train", 32)))


@pytest.fixture(scope="module")
def stage1(dataset, config, batch):
    model = Pretrain(dataset.schema, config)
    model(batch)
    return model


def losses_of(stage1, batch, **changes):
    settings = dataclasses.replace(stage1.config.pretrain, **changes)
    losses = pretrain_losses(
        stage1.mapper, batch, stage1(batch), settings, keras.random.SeedGenerator(0)
    )
    return {name: float(value) for name, value in losses.items()}


def test_equations_11_and_15_weigh_the_named_losses(stage1, batch):
    got = losses_of(stage1, batch, alpha=0.3, beta=0.7, cross=0.2)
    l_cross = got["loss/mmd"] + got["loss/translation"]  # Eq. (9)
    l_c2l = got["loss/reconstruction_history"] + got["loss/reconstruction_features"]
    l_c2l += 0.2 * l_cross  # Eq. (11)
    l_pre = 0.3 * got["loss/features"] + 0.7 * got["loss/sequences"] + l_c2l  # Eq. (15)
    np.testing.assert_allclose(got["loss/pretrain"], l_pre, rtol=1e-5)
    assert all(value > 0 for value in got.values())


def test_equations_8_and_9_compare_the_right_sequences(stage1, batch):
    mapper, real = stage1.mapper, np.asarray(batch["history"]) != 0
    t_s, t_f, simulated = mapper(batch)
    got = losses_of(stage1, batch)
    history = reconstruction(mapper.auto_s(t_s, real), t_s, real)
    features = reconstruction(mapper.auto_f(t_f), t_f)
    # The simulated history is D_s(E_f(T_f)), and it is compared with the real one.
    np.testing.assert_allclose(simulated, mapper.auto_s.decode(mapper.auto_f.encode(t_f)))
    translation = reconstruction(simulated, t_s, real)
    gap = mmd(mapper.auto_s.encode(t_s, real), mapper.auto_f.encode(t_f))
    expected = [history, features, translation, gap]
    names = ("reconstruction_history", "reconstruction_features", "translation", "mmd")
    np.testing.assert_allclose([got[f"loss/{n}"] for n in names], expected, rtol=1e-4)


def test_a_short_simulated_history_stands_for_the_newest_positions(dataset, config, batch):
    """T_s, its code and both errors are those of the newest S positions."""
    short = Pretrain(dataset.schema, config.changed({"model.simulated": 3}))
    mapper = short.mapper
    t_s, t_f, simulated = short(batch)
    assert simulated.shape[1] == 3
    got, real = losses_of(short, batch), np.asarray(batch["history"])[:, -3:] != 0
    t_s = np.asarray(t_s)[:, -3:]
    history, translation = (
        reconstruction(x, t_s, real) for x in (mapper.auto_s(t_s, real), simulated)
    )
    gap = mmd(mapper.auto_s.encode(t_s, real), mapper.auto_f.encode(t_f))
    names = ("reconstruction_history", "translation", "mmd")
    np.testing.assert_allclose(
        [got[f"loss/{name}"] for name in names], [history, translation, gap], rtol=1e-4
    )
    # A batch may be cut to histories that are shorter than that.
    one = {**batch, "history": batch["history"][:, -1:]}
    expected = reconstruction(simulated[:, -1:], np.asarray(short(one)[0]), real[:, -1:])
    np.testing.assert_allclose(losses_of(short, one)["loss/translation"], expected, rtol=1e-4)


def test_the_contrast_of_codes_compares_those_of_a_user_with_those_of_others(stage1, batch):
    mapper, real = stage1.mapper, np.asarray(batch["history"]) != 0
    t_s, t_f, _ = mapper(batch)
    p_s, p_f = mapper.auto_s.encode(t_s, real), mapper.auto_f.encode(t_f)
    got = losses_of(stage1, batch, contrast=0.4, temperature=0.2)
    expected = info_nce(p_f, p_s, 0.2, batch["profile_key"])
    np.testing.assert_allclose(got["loss/codes"], expected, rtol=1e-4)
    without = losses_of(stage1, batch, contrast=0.0, temperature=0.2)
    added = got["loss/pretrain"] - without["loss/pretrain"]
    np.testing.assert_allclose(added, 0.4 * got["loss/codes"], rtol=1e-4)
    assert "loss/codes" not in without


def test_rows_without_weight_change_nothing(stage1, batch):
    """A flagged user's history must not teach the mapper anything."""
    warm = np.ones(32, "float32")
    warm[:8] = 0
    other = np.asarray(batch["history"]).copy()
    other[:8] = 0
    settings, losses = stage1.config.pretrain, []
    for history in (batch["history"], other):
        seed = keras.random.SeedGenerator(3)
        changed = {**batch, "history": history}
        mapped = stage1(changed)
        losses.append(pretrain_losses(stage1.mapper, changed, mapped, settings, seed, warm=warm))
    for name in losses[0]:
        # The views of the other users are the same, since the seed is.
        np.testing.assert_allclose(losses[0][name], losses[1][name], rtol=1e-4)


def test_padding_on_the_left_changes_no_real_position(stage1, batch):
    """The same items behind five padded positions, and in a history of three positions."""
    mapper, history = stage1.mapper, np.array(batch["history"])
    history[:, :5] = 0
    padded = np.asarray(mapper.encode_history(history))
    short = np.asarray(mapper.encode_history(history[:, 5:]))
    np.testing.assert_allclose(padded[:, 5:], short, atol=1e-5)
    t_s = np.asarray(mapper.history_side(history))
    assert np.all(t_s[:, :5] == 0) and np.abs(t_s[:, 5:]).max() > 0
    assert np.all(np.isfinite(mapper.history_side(np.zeros_like(history))))


def test_cold_users_do_not_count_in_stage_1(stage1, batch):
    cold = np.arange(32) % 2 == 0
    mixed = {**batch, "is_cold": cold, "history": np.where(cold[:, None], 0, batch["history"])}
    got = stage1.losses_of(mixed)
    warm = tf.nest.map_structure(lambda t: np.asarray(t)[~cold], mixed)
    expected = stage1.losses_of(warm)
    for name in ("reconstruction_history", "reconstruction_features", "translation", "mmd"):
        np.testing.assert_allclose(got[f"loss/{name}"], expected[f"loss/{name}"], rtol=1e-4)


def test_history_side_is_causal(stage1, batch):
    """Position t must not see its own label, the item at t + 1."""
    history = np.array(batch["history"])
    history[:, :] = 2 + np.arange(8)
    changed = history.copy()
    changed[:, 5:] = 15
    one, two = (np.asarray(stage1.mapper.history_side(h)) for h in (history, changed))
    np.testing.assert_allclose(one[:, :5], two[:, :5], atol=1e-6)
    assert not np.allclose(one[:, 5], two[:, 5], atol=1e-4)


@pytest.mark.parametrize("targets", ["fixed", "move"])
def test_fixed_targets_stop_the_gradient(dataset, config, batch, targets):
    """With fixed targets, reconstruction alone cannot shrink its targets."""
    settings = dataclasses.replace(config.pretrain, targets=targets)
    model = Pretrain(dataset.schema, dataclasses.replace(config, pretrain=settings))
    model(batch)
    # With a decoder that always returns 0, only the target can have a gradient.
    for weight in model.mapper.auto_s.decoder.weights:
        weight.assign(weight * 0)
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch)["loss/reconstruction_history"]
    gradient = tape.gradient(loss, model.mapper.psi_s.positions.table)
    assert (np.abs(gradient).max() > 0) == (targets == "move")


def test_masked_mean():
    x = np.arange(6, dtype="float32").reshape(1, 3, 2)
    np.testing.assert_allclose(masked_mean(x, np.array([[False, True, True]])), [[3.0, 4.0]])
    np.testing.assert_allclose(masked_mean(x, np.zeros((1, 3), bool)), [[0.0, 0.0]])


@pytest.mark.usefixtures("eager")
def test_fit_learns_and_keeps_users_apart(dataset, config):
    keras.utils.set_random_seed(0)
    model = Pretrain(dataset.schema, config)
    model.compile(keras.optimizers.Adam(0.005))
    history = model.fit(dataset.batches("train", 48), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    batch = next(iter(dataset.batches("val", 32)))
    t_s = np.asarray(model(batch)[0])
    # Representation collapse would leave no variance between users.
    assert t_s[:, -1].var(axis=0).mean() > 1e-4


def test_a_longer_history_is_refused(stage1, batch):
    longer = {**batch, "history": np.pad(batch["history"], [[0, 0], [1, 0]])}
    # Keras wraps errors that are raised inside a call, and keeps the text.
    with pytest.raises(RuntimeError, match="length 9.*max_history=8"):
        stage1(longer)


def test_stage_1_of_a_batch_that_was_cut_to_its_longest_history(stage1, batch):
    """Padding beyond the longest history of a batch changes no loss without random views."""
    short = {**batch, "history": np.where(np.arange(8) < 4, 0, batch["history"])}
    cut = {**batch, "history": short["history"][:, 4:]}
    names = ("loss/reconstruction_history", "loss/mmd", "loss/translation")
    expected, got = losses_of(stage1, short), losses_of(stage1, cut)
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, err_msg=name)

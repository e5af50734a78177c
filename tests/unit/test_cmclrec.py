"""Stage 2: Eqs. (12)-(14) and (16), and invariants of the whole model."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.losses.info_nce import info_nce
from cmclrec_tf.losses.next_item import next_labels
from cmclrec_tf.models import CMCLRec, prefix
from cmclrec_tf.models.cold_rows import choose, decayed_targets, without_history

RNG = np.random.default_rng(0)
EITHER = {"sequence": "either"}


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("train", 32)))


def build(dataset, config, batch, model=None, finetune=None):
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, popularity_prior=False, **(model or {})),
        finetune=dataclasses.replace(config.finetune, **(finetune or {})),
    )
    built = CMCLRec(dataset.schema, config)
    built(batch)
    return built


def test_equation_13_takes_each_row_from_one_side():
    simulated, real = RNG.normal(size=(2, 4, 3, 2))
    flag = np.array([1, 0, 0, 1])
    expected = flag[:, None, None] * simulated + (1 - flag)[:, None, None] * real
    np.testing.assert_allclose(choose(flag.astype(bool), simulated, real), expected)


def test_equation_13_lets_no_gradient_through_to_the_unused_side():
    simulated, real = (tf.Variable(RNG.normal(size=(4, 3, 2))) for _ in range(2))
    flag = np.array([True, False, False, True])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(choose(flag, simulated, real)))
    for gradient, used in zip(tape.gradient(loss, [simulated, real]), (flag, ~flag), strict=True):
        assert np.array_equal(np.abs(gradient).sum(axis=(1, 2)) > 0, used)


def test_equation_12_flags_a_share_by_user_and_epoch(dataset, config, batch):
    model = build(dataset, config, batch, EITHER, {"cold_share": 0.3})
    keys = tf.range(20_000, dtype=tf.int64)
    model.epoch.assign(0)
    first, again = model._cold_flags(keys).numpy(), model._cold_flags(keys).numpy()
    model.epoch.assign(1)
    second = model._cold_flags(keys).numpy()
    assert np.array_equal(first, again)
    assert abs(first.mean() - 0.3) < 0.02 and abs(second.mean() - 0.3) < 0.02
    assert abs((first & second).mean() - 0.09) < 0.02  # each epoch flags other users


def test_labels_are_the_next_items_and_skip_padding():
    labels = next_labels(np.array([[0, 0, 5, 6, 7]]), np.array([[8, 0]]))
    np.testing.assert_array_equal(labels, [[0, 0, 6, 7, 8]])


@pytest.mark.parametrize("positions", ["last", "every"])
def test_equation_14_over_warm_and_cold_states(dataset, config, batch, positions):
    """L_rec in NumPy, from the user states of the model."""
    model = build(
        dataset,
        config,
        batch,
        {"positions": positions},
        {"cold_decay": 0.0, "distill": 0.0, "cold_weight": 0.25, "feature_dropout": 0.0},
    )
    got = float(model.losses_of(batch)["loss/next_item"])

    def cross_entropy(states, labels):
        logits = states @ model.mapper.items.embeddings.numpy().T
        logits = logits[:, 2:].astype("float64")  # PAD and OOV are no items
        chosen = logits[np.arange(len(labels)), labels - 2]
        return np.log(np.exp(logits).sum(axis=1)) - chosen

    t_s, _, simulated = model.mapper(batch)
    history, target = batch["history"].numpy(), batch["target"].numpy()[:, 0]
    x, mask, end = prefix.join(simulated, t_s, history)
    g = np.asarray(model.backbone(x, mask))
    if positions == "last":
        warm = cross_entropy(g[:, -1], target).mean()
        cold = np.asarray(model.cold_states(batch["features"]))  # a pass of its own
    else:
        labels = np.concatenate([history[:, 1:], target[:, None]], axis=1)
        labels[:, :-1][history[:, :-1] == 0] = 0
        warm = cross_entropy(g[:, simulated.shape[1] :][labels > 1], labels[labels > 1]).mean()
        cold = g[np.asarray(end) == 1]
    cold = cross_entropy(cold, target).mean()
    np.testing.assert_allclose(got, warm + 0.25 * cold, rtol=1e-4)


def test_equation_14_with_flags_counts_every_user_once(dataset, config, batch):
    finetune = {"cold_decay": 0.0, "distill": 0.0, "cold_weight": 1.0}
    model = build(dataset, config, batch, {"positions": "last", **EITHER}, finetune)
    flagged = np.asarray(model._cold_flags(batch["user_key"]))
    assert 0 < flagged.sum() < 32
    got = float(model.losses_of(batch)["loss/next_item"])
    states = model({**batch, "is_cold": flagged})
    scores = np.asarray(model.score(states), "float64")[:, 2:]
    target = batch["target"].numpy()[:, 0] - 2
    loss = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(32), target]
    np.testing.assert_allclose(got, loss.mean(), rtol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_the_target_of_a_cold_row_weighs_the_newest_items_most(dataset, batch, decay):
    got = np.asarray(decayed_targets(batch, decay, dataset.schema.items))
    for row, history, target in zip(got, batch["history"].numpy(), batch["target"], strict=True):
        expected = np.zeros(len(row))
        for age, item in enumerate([int(target[0]), *history[::-1]]):
            if item >= 2:
                expected[item] += decay**age
        np.testing.assert_allclose(row, expected / expected.sum(), rtol=1e-5)


def test_the_cold_target_holds_the_warm_prediction_without_a_gradient(dataset, config, batch):
    """Distillation changes the cold target, and sends no gradient to the history."""
    settings = {"eta": 0.0, "feature_dropout": 0.0, "cold_weight": 1.0, "softmax": "full"}
    settings |= {"forgotten_share": 0.0, "hidden_share": 0.0, "cold_decay": 0.0, "distill": 0.25}
    # A bidirectional backbone has a pass for the cold states, which places them as `call` does.
    model = build(dataset, config, batch, {"backbone": "bert4rec"}, settings)
    with tf.GradientTape() as tape:
        got = model.losses_of(batch, training=True)["loss/cold"]
    gradient = tape.gradient(got, model.mapper.psi_s.trainable_variables)
    assert all(g is None or not np.any(g) for g in gradient)
    scores = {}
    for path, flag in (("warm", False), ("cold", True)):
        states = model({**batch, "is_cold": np.full(32, flag)})
        scores[path] = np.asarray(model.score(states), "float64")[:, 2:]
    log_p = {path: s - np.log(np.exp(s).sum(1, keepdims=True)) for path, s in scores.items()}
    targets = 0.75 * np.eye(scores["warm"].shape[1])[batch["target"].numpy()[:, 0] - 2]
    targets = targets + 0.25 * np.exp(log_p["warm"])
    np.testing.assert_allclose(got, -(targets * log_p["cold"]).sum(1).mean(), rtol=1e-4)


@pytest.mark.parametrize("sequence", ["prefix", "either"])
def test_a_batch_cut_to_its_longest_history_has_the_same_losses(dataset, config, sequence):
    settings = {"softmax": "full", "eta": 0.0, "feature_dropout": 0.0}
    whole = next(iter(dataset.batches("train", 32)))
    longest = int((whole["history"].numpy() != 0).sum(1).max())
    # A ninth position that no user fills.
    longer = dataclasses.replace(config, data=dataclasses.replace(config.data, max_history=9))
    padded = {**whole, "history": np.pad(whole["history"], [[0, 0], [1, 0]])}
    cut = {**whole, "history": whole["history"][:, -longest:]}
    model = build(dataset, longer, padded, {"sequence": sequence}, settings)
    for name, value in model.losses_of(padded).items():
        np.testing.assert_allclose(model.losses_of(cut)[name], value, rtol=1e-4, err_msg=name)


def test_the_contrast_of_states_compares_those_of_a_user_with_those_of_others(
    dataset, config, batch
):
    settings = {"contrast": 0.3, "temperature": 0.2}
    model = build(dataset, config, batch, {}, settings)
    losses = model.losses_of(batch)
    t_s, _, simulated = model.mapper(batch)
    x, mask, end = prefix.join(simulated, t_s, batch["history"])
    g = model.backbone(x, mask)
    warm = np.asarray(batch["history"])[:, -1] != 0
    expected = info_nce(
        prefix.at_end(g, end), g[:, -1], 0.2, batch["profile_key"], warm.astype("float32")
    )
    np.testing.assert_allclose(losses["loss/states"], expected, rtol=1e-4)
    rest = losses["loss/next_item"] + model.config.finetune.eta * losses["loss/pretrain"]
    np.testing.assert_allclose(losses["loss"] - rest, 0.3 * expected, rtol=1e-3)


@pytest.mark.parametrize(("simulated", "positions"), [(3, 3), (0, 8), (20, 8)])
def test_a_simulated_history_has_as_many_positions_as_the_setting_says(
    dataset, config, batch, simulated, positions
):
    model = build(dataset, config, batch, {"simulated": simulated})
    history = model.simulated(batch["features"])
    assert history.shape == (32, positions, 16)
    expected = np.asarray(model.simulated_states(history))
    np.testing.assert_allclose(model.cold_states(batch["features"]), expected, rtol=1e-5)
    cold = {**batch, "is_cold": np.full(32, True)}
    np.testing.assert_allclose(model(cold), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", backbones.names())
def test_both_paths_train_every_backbone_through_the_mapper(dataset, config, batch, name):
    model = build(dataset, config, batch, {"backbone": name}, {"eta": 0.0, "distill": 0.0})
    for name_of_loss in ("loss/warm", "loss/cold"):
        with tf.GradientTape() as tape:
            loss = model.losses_of(batch, training=True)[name_of_loss]
        parts = {"mapper": model.mapper, "backbone": model.backbone}
        gradients = tape.gradient(loss, {n: p.trainable_variables for n, p in parts.items()})
        for part, values in gradients.items():
            nonzero = [g is not None and np.any(g) for g in map(dense, values)]
            assert any(nonzero), (name_of_loss, part)
    assert np.isfinite(loss)


def dense(gradient):
    return None if gradient is None else tf.convert_to_tensor(gradient)


def test_a_flagged_users_history_is_removed_and_the_target_remains(batch):
    flagged = np.arange(32) % 4 == 0
    hidden = without_history(batch, flagged)
    assert not np.any(hidden["history"][flagged])
    np.testing.assert_array_equal(hidden["history"][~flagged], batch["history"][~flagged])
    np.testing.assert_array_equal(hidden["target"], batch["target"])


def test_a_flagged_users_history_does_not_reach_the_loss(dataset, config, batch):
    model = build(dataset, config, batch, model=EITHER, finetune={"cold_decay": 0.0})
    flagged = np.asarray(model._cold_flags(batch["user_key"]))[:, None]
    history = batch["history"].numpy()
    planted = np.where(flagged & (history != 0), 2 + RNG.integers(0, 5, history.shape), history)
    one, two = (
        float(model.losses_of({**batch, "history": h})["loss/next_item"])
        for h in (history, planted)
    )
    assert one == pytest.approx(two, rel=1e-6)


def test_equation_16_adds_the_stage_1_loss(dataset, config, batch):
    model = build(dataset, config, batch, finetune={"eta": 0.7})
    got = {name: float(value) for name, value in model.losses_of(batch).items()}
    expected = 0.7 * got["loss/pretrain"] + got["loss/next_item"]
    assert got["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("eager")
def test_one_train_step_moves_mapper_and_backbone(dataset, config, batch):
    model = build(dataset, config, batch, finetune={"eta": 0.1})
    model.compile(keras.optimizers.Adam(0.01))
    before = [np.array(v) for v in model.trainable_variables]
    model.train_on_batch(batch)
    still = [
        v.path
        for v, old in zip(model.trainable_variables, before, strict=True)
        # A softmax over keys does not see a bias that all of them share.
        if np.array_equal(v, old) and "key/bias" not in v.path
    ]
    assert still == []


@pytest.mark.parametrize("segment", [True, False])
def test_batches_of_one_segment_and_of_one_user(dataset, config, batch, segment):
    model = build(dataset, config, batch)
    whole = {**batch, "is_cold": np.full(32, segment)}
    states = np.asarray(model(whole))
    one = tf.nest.map_structure(lambda t: t[:1], whole)
    np.testing.assert_allclose(np.asarray(model(one)), states[:1], rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.losses_of(one)["loss"])


def test_call_is_warm_and_cold_states_by_row(dataset, config, batch):
    model = build(dataset, config, batch)
    flag = np.arange(32) % 2 == 0
    got = np.asarray(model({**batch, "is_cold": flag}))
    warm, cold = map(np.asarray, model.warm_and_cold_states(batch))
    np.testing.assert_allclose(got, np.where(flag[:, None], cold, warm), rtol=1e-4, atol=1e-5)


def test_trained_model_beats_chance_in_both_segments(model, dataset):
    from cmclrec_tf.evaluation import evaluate

    rows = evaluate(model, dataset, ks=(5, 10)).rows
    assert rows["warm"]["recall@5"] > 0.8  # the next step of a walk
    assert rows["cold"]["recall@10"] > 0.8  # the team's ten items
    assert rows["cold"]["jaccard@10"] < 0.7  # not one list for all users


def test_recommend_leaves_out_the_history(model, dataset):
    for batch in dataset.batches("test", 32):
        lists = np.asarray(model.recommend(batch, 15))
        for ids, history, cold in zip(lists, batch["history"], batch["is_cold"], strict=True):
            items = ids[ids != 0]
            assert len(set(items)) == len(items) and items.min() >= 2
            assert cold or not set(items) & set(history.numpy())


def test_keras_file_round_trip(model, dataset, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    batch = next(iter(dataset.batches("test", 32)))
    np.testing.assert_allclose(model(batch), loaded(batch), rtol=1e-6)
    assert loaded.config == model.config and loaded.schema == model.schema

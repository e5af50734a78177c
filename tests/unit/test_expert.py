"""The expert in user features: what it learns, how it is weighed, and how it travels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cmclrec_tf as cm
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.models.prior_fit import Problem, count_popularity
from cmclrec_tf.training import fit_expert
from tests.conftest import TINY

RNG = np.random.default_rng(5)
COEFFICIENTS = [[0.5, 0.75, 0.25, 1.5], [2.0, -0.5, 0.125, 0.0]]
CONFIG = cm.Config.from_dict(TINY).changed({"model.expert_width": 6})


@pytest.fixture(scope="module")
def model(dataset):
    """A CMCLRec whose expert is trained, and nothing else."""
    built = cm.CMCLRec(dataset.schema, CONFIG, expert=fit_expert(dataset, CONFIG))
    count_popularity(built, dataset)
    built(next(iter(dataset.batches("train", 4))))
    return built


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("test", 32)))


def test_it_learns_the_items_of_each_team(model, dataset, batch):
    """By itself: popularity of last events is the same for all users."""
    expert = model.expert
    scores = np.asarray(expert.scores(expert(batch["features"])))[:, 2:]
    scores = scores + np.asarray(model.prior.log_popularity)[2:, 0]
    chosen = np.asarray(batch["target"])[:, 0] - 2
    known = chosen >= 0
    rank = (scores > np.take_along_axis(scores, chosen[:, None].clip(0), 1)).sum(1)
    popular = np.asarray(model.prior.log_popularity)[2:, 0]
    baseline = (popular[None] > popular[chosen.clip(0)][:, None]).sum(1)
    assert rank[known].mean() < 0.8 * baseline[known].mean()


def test_scores_hold_its_opinion_as_one_inner_product(model, batch):
    kept = np.array(model.prior.coefficients)
    model.prior.coefficients.assign(COEFFICIENTS)
    width = model.config.model.width
    vectors = np.concatenate([np.asarray(v) for v in model.item_variables], axis=1)
    assert vectors.shape[1] == width + 2 + 6
    cold = np.asarray(model.cold_states(batch["features"]))
    z = np.asarray(model.expert(batch["features"]))
    np.testing.assert_allclose(cold[:, width:], np.c_[np.tile([0.75, 0.25], (32, 1)), 1.5 * z])
    np.testing.assert_allclose(model.score(cold)[:, 2:], (cold @ vectors.T)[:, 2:], atol=1e-4)
    # A user with n items has the weight d / (1 + n), one of unknown features none.
    count = (np.asarray(batch["history"]) != 0).sum(1)[:, None]
    both = np.asarray(model.states(batch["history"], batch["features"]))
    np.testing.assert_allclose(both[:, width + 2 :], 1.5 * z / (1 + count), atol=1e-5)
    model.prior.coefficients.assign(kept)


def test_scores_of_unknown_features_do_not_read_its_vectors(model, batch):
    """Most of the time of a request over many items goes to reading their vectors."""
    read = tf.function(lambda: model.score(model.warm_states(batch["history"])))
    variables = {id(variable) for variable in read.get_concrete_function().graph.variables}
    of_items, of_prior, of_expert = (id(variable) in variables for variable in model.item_variables)
    assert of_items and of_prior and not of_expert
    # They are those of a user without an opinion of the expert.
    states = np.asarray(model.warm_states(batch["history"]))
    assert states.shape[1] == model.config.model.width + 2
    no_opinion = np.pad(states, [[0, 0], [0, model.expert.width]])
    np.testing.assert_allclose(read(), model.score(no_opinion), atol=1e-5)


def test_it_is_weighed_where_it_knows_more():
    """Users whose items follow the sum of both scores, and users whose items do not."""
    v, table, vectors = 40, RNG.normal(size=(40, 6)), RNG.normal(size=(40, 4))
    popularity = np.log(RNG.dirichlet(np.full(v, 0.5), 2).T + 1e-3)
    states, z = RNG.normal(size=(4000, 6)), RNG.normal(size=(4000, 4))
    for weight in (0.0, 0.8):
        logits = 0.7 * states @ table.T + weight * z @ vectors.T + 0.5 * popularity[:, 0]
        logits[:, :2] = -1e9
        items = (logits + RNG.gumbel(size=logits.shape)).argmax(1).astype("int32")
        floats = [x.astype("float32") for x in (states, table, popularity, z, vectors)]
        problem = Problem(floats[0], items, *floats[1:3])
        without = problem.solve()
        problem.add_expert(*floats[3:])
        solved = problem.solve()
        np.testing.assert_allclose(solved, [0.7, 0.5, 0.0, weight], atol=0.1)
        assert without[3] == 0.0


def test_a_new_model_loads_it_from_a_file(model, batch, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(batch), model(batch), rtol=1e-5)


def test_without_the_prior_that_weighs_it_there_is_none(dataset):
    config = CONFIG.changed({"model.popularity_prior": False})
    assert fit_expert(dataset, config) is None
    assert cm.CMCLRec(dataset.schema, config).expert is None


def test_stage_2_leaves_it_alone(model, dataset, batch):
    """So does a warm start, which carries the trainable variables over."""
    before = [np.array(v) for v in model.expert.weights]
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    model.train_on_batch({**batch, "is_cold": np.zeros(32, bool)})
    for one, two in zip(model.expert.weights, before, strict=True):
        np.testing.assert_array_equal(one, two)
    trained = {id(v) for v in model.trainable_variables}
    assert not trained & {id(v) for v in model.expert.weights}


def test_train_stops_it_by_the_next_items_of_validation_users(dataset, monkeypatch):
    logged = []

    def scripted(self, logs, key=None):
        logged.append(logs["val_log_probability"])
        return -abs(len(logged) - 2.0)  # the second epoch is the best one

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "get_monitor_value", scripted)
    config = CONFIG.changed({"finetune.patience": 2, "finetune.epochs": 9})
    expert = fit_expert(dataset, config)
    assert len(logged) == 4
    scores, popular = [], Popularity(dataset, "last").log_shares
    for users in dataset.batches("val", 32):
        logits = np.asarray(expert.scores(expert(users["features"]))) + popular
        logits = logits[:, 2:] - np.log(np.exp(logits[:, 2:]).sum(1, keepdims=True))
        scores.append(np.take_along_axis(logits, users["target"].numpy()[:, :1] - 2, 1))
    assert np.concatenate(scores).mean() == pytest.approx(logged[1], abs=1e-4)


@pytest.mark.usefixtures("eager")
def test_mixed_precision_trains_it_with_scores_in_float32(dataset, batch):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        expert = fit_expert(dataset, CONFIG.changed({"finetune.epochs": 2}))
        z = expert(batch["features"], training=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert z.dtype == "float32" and np.all(np.isfinite(expert.scores(z)))
    assert all(v.dtype == "float32" for v in expert.weights)

"""The expert in user features: what it learns, how it is weighed, and how it travels."""

import keras
import numpy as np
import pytest

import cmclrec_tf as cm
from cmclrec_tf.errors import InputError
from cmclrec_tf.models.prior_fit import Problem
from tests.conftest import TINY

RNG = np.random.default_rng(5)
COEFFICIENTS = [[0.5, 0.75, 0.25, 1.5], [2.0, -0.5, 0.125, 0.0]]


@pytest.fixture(scope="module")
def trained(dataset):
    config = cm.Config.from_dict(TINY).changed({"model.expert_width": 6, "pretrain.epochs": 0})
    return cm.train(dataset, config)


@pytest.fixture
def batch(dataset):
    return next(iter(dataset.batches("test", 32)))


def test_it_learns_the_items_of_each_team(trained, dataset, batch):
    """By itself: popularity of last events is the same for all users."""
    expert = trained.expert
    scores = np.asarray(expert.scores(expert(batch["features"])))[:, 2:]
    scores = scores + np.asarray(trained.prior.log_popularity)[2:, 0]
    chosen = np.asarray(batch["target"])[:, 0] - 2
    known = chosen >= 0
    rank = (scores > np.take_along_axis(scores, chosen[:, None].clip(0), 1)).sum(1)
    popular = np.asarray(trained.prior.log_popularity)[2:, 0]
    baseline = (popular[None] > popular[chosen.clip(0)][:, None]).sum(1)
    assert rank[known].mean() < 0.8 * baseline[known].mean()


def test_scores_hold_its_opinion_as_one_inner_product(trained, batch):
    kept = np.array(trained.prior.coefficients)
    trained.prior.coefficients.assign(COEFFICIENTS)
    width = trained.config.model.width
    vectors = np.concatenate([np.asarray(v) for v in trained.item_variables], axis=1)
    assert vectors.shape[1] == width + 2 + 6
    cold = np.asarray(trained.cold_states(batch["features"]))
    z = np.asarray(trained.expert(batch["features"]))
    np.testing.assert_allclose(cold[:, width:], np.c_[np.tile([0.75, 0.25], (32, 1)), 1.5 * z])
    np.testing.assert_allclose(trained.score(cold)[:, 2:], (cold @ vectors.T)[:, 2:], atol=1e-4)
    # A user with n items has the weight d / (1 + n), one of unknown features none.
    count = (np.asarray(batch["history"]) != 0).sum(1)[:, None]
    both = np.asarray(trained.states(batch["history"], batch["features"]))
    np.testing.assert_allclose(both[:, width + 2 :], 1.5 * z / (1 + count), atol=1e-5)
    assert not np.asarray(trained.warm_states(batch["history"]))[:, width + 2 :].any()
    trained.prior.coefficients.assign(kept)


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


def test_a_new_model_loads_it_from_a_file(trained, batch, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(batch), trained(batch), rtol=1e-5)


def test_it_needs_the_prior_that_weighs_it():
    with pytest.raises(InputError, match="expert_width"):
        cm.Config.preset("default").changed(
            {"model.expert_width": 8, "model.popularity_prior": False}
        )

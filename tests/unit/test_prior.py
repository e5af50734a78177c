"""The popularity prior: its coefficients, and how it travels in user embeddings."""

import keras
import numpy as np
import pytest

import cmclrec_tf as cm
from cmclrec_tf.callbacks import LogLikelihood
from cmclrec_tf.models.prior import NEUTRAL
from cmclrec_tf.models.prior_fit import Problem, ValidationUsers, count_popularity

RNG = np.random.default_rng(0)
N, V, D = 4000, 42, 6
COEFFICIENTS = [[0.5, 0.75, 0.25, 0.0], [2.0, -0.5, 0.125, 0.0]]


def problem(weights, scale, users=N):
    """Users whose items follow softmax(scale <g, e> + weights log p), and what fits them."""
    table = RNG.normal(size=(V, D)).astype("float32")
    popularity = np.log(RNG.dirichlet(np.full(V, 0.3), 2).T + 1e-3).astype("float32")
    states = RNG.normal(size=(users, D)).astype("float32")
    logits = scale * states @ table.T + popularity @ weights
    logits[:, :2] = -1e9
    items = (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1).astype("int32")
    return Problem(states, items, table, popularity)


@pytest.mark.parametrize("weights", [(0.7, 0.0), (0.5, -0.4)])
def test_coefficients_that_made_the_data_are_found(weights):
    found = problem(np.array(weights), scale=0.6).solve()
    np.testing.assert_allclose(found, [0.6, *weights, 0.0], atol=0.1)


def test_data_without_popularity_gets_none_as_a_rule():
    """One standard error of a paired mean lets about one of twenty through."""
    found = [problem(np.zeros(2), scale=1.5, users=400).solve() for _ in range(10)]
    assert sum(not any(one[1:]) for one in found) >= 7
    np.testing.assert_allclose([one[0] for one in found], 1.5, atol=0.5)


def test_scores_against_the_truth_stay_as_they_are():
    assert problem(np.zeros(2), scale=-1.0).solve() == NEUTRAL


@pytest.fixture(scope="module")
def fitted(dataset, model):
    """A copy of the trained model with coefficients that no other test has."""
    copy = cm.CMCLRec(model.schema, model.config)
    batch = next(iter(dataset.batches("test", 32)))
    copy(batch)
    copy.set_weights(model.get_weights())
    copy.prior.coefficients.assign(COEFFICIENTS)
    return copy, batch


def test_scores_hold_the_prior_by_the_number_of_known_items(fitted):
    model, batch = fitted
    history = batch["history"].numpy().copy()
    history[0] = 0
    count = (history != 0).sum(1)[:, None]
    cold, warm = (row[None] for row in np.asarray(model.prior.coefficients))
    scale, *weights = np.split(((cold + count * warm) / (1 + count))[:, :3], 3, axis=1)
    batch = {**batch, "history": history, "is_cold": count[:, 0] == 0}
    states = np.asarray(model.state(history, batch["features"], batch["is_cold"]))
    table = model.items.embeddings.numpy()
    popularity = np.asarray(model.prior.log_popularity)
    expected = scale * (states @ table.T) + np.concatenate(weights, axis=1) @ popularity.T
    embeddings = model(batch)
    np.testing.assert_allclose(model.score(embeddings)[:, 2:], expected[:, 2:], atol=1e-4)
    vectors = np.concatenate([np.asarray(v) for v in model.item_variables], axis=1)
    np.testing.assert_allclose((embeddings @ vectors.T)[:, 2:], expected[:, 2:], atol=1e-4)
    # An unknown user gets the most popular items.
    nobody = model.warm_states(np.zeros_like(history[:1]))
    np.testing.assert_allclose(nobody[0], [0.0] * model.config.model.width + [0.75, 0.25])


def test_popularity_is_that_of_the_train_split(dataset, fitted):
    model, _ = fitted
    count_popularity(model, dataset)
    for column, events in enumerate(("last", "all")):
        counts = cm.Popularity(dataset, events).scores[2:] + 0.5
        expected = np.log(counts / counts.sum())
        np.testing.assert_allclose(model.prior.log_popularity[2:, column], expected, rtol=1e-5)


def test_the_prior_is_saved_with_the_model(fitted, tmp_path):
    model, batch = fitted
    model.prior.coefficients.assign(COEFFICIENTS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(batch), model(batch), rtol=1e-5)


def test_fitted_scores_are_no_less_likely(dataset, model):
    """On the validation users that the fit reads, in both segments."""
    neutral = [list(NEUTRAL)] * 2
    coefficients = np.array(model.prior.coefficients)
    assert not np.array_equal(coefficients, neutral)
    batches = dataset.batches("val", 64)
    after = model.evaluate(batches, return_dict=True, verbose=0)
    model.prior.coefficients.assign(neutral)
    before = model.evaluate(batches, return_dict=True, verbose=0)
    model.prior.coefficients.assign(coefficients)
    assert all(after[f"loss/{name}"] < before[f"loss/{name}"] for name in ("cold", "warm"))


def test_the_likelihood_is_that_of_all_three_coefficients(fitted, dataset):
    """It neither reads nor changes the coefficients of the model, nor the scale of its states."""
    model, _ = fitted
    count_popularity(model, dataset)
    kept = np.array(model.prior.coefficients)
    users = ValidationUsers(model, dataset)
    likelihoods = users.log_likelihoods()
    np.testing.assert_array_equal(model.prior.coefficients, kept)
    problems = users.problems()
    for segment in ("cold", "warm"):
        best, values = problems[segment].maximum(3)
        assert likelihoods[segment] == pytest.approx(values.mean(), abs=2e-4)
        logits = best[0] * problems[segment].states @ np.asarray(model.table).T
        logits += np.asarray(model.prior.log_popularity) @ best[1:3]
        logits[:, :2] = -1e9
        chosen = np.take_along_axis(logits, problems[segment].targets[:, None], 1)[:, 0]
        expected = chosen - np.log(np.exp(logits - logits.max()).sum(1)) - logits.max()
        np.testing.assert_allclose(values, expected, atol=1e-3)
        # A second fit, which starts where the first one ended, finds the same.
        assert users.log_likelihoods()[segment] == pytest.approx(likelihoods[segment], abs=2e-4)
    assert likelihoods["warm"] > likelihoods["cold"]


@pytest.mark.slow
def test_a_fit_stops_by_the_likelihood_and_keeps_the_weights_of_its_best_epoch(
    dataset, config, monkeypatch
):
    logged = []
    original = LogLikelihood.on_epoch_end

    def scripted(self, epoch, logs=None):
        """Falls after the second epoch, whatever the NDCG does."""
        original(self, epoch, logs)
        assert logs["val_log_likelihood"] == pytest.approx(
            (logs["val_log_likelihood_warm"] + logs["val_log_likelihood_cold"]) / 2
        )
        logs["val_log_likelihood"] = -abs(epoch - 1.0)
        logged.append(np.array(self.model.table))

    monkeypatch.setattr(LogLikelihood, "on_epoch_end", scripted)
    short = {"finetune.epochs": 5, "finetune.patience": 2, "pretrain.epochs": 0}
    trained = cm.train(dataset, config.changed(short))
    assert len(logged) == 4
    np.testing.assert_array_equal(trained.table, logged[1])

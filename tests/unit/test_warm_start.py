"""Training from the weights of an earlier model, with other vocabularies."""

import dataclasses

import keras
import numpy as np
import pytest

from cmclrec_tf.data import vocabulary
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import CMCLRec
from cmclrec_tf.models.prior_fit import count_popularity, fit_prior
from cmclrec_tf.schema import FIRST_ID
from cmclrec_tf.training import train
from cmclrec_tf.warm_start import WarmStart, save
from tests.conftest import FEATURES

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def start(model, dataset, tmp_path_factory):
    """The weights of the trained model, read from disk."""
    folder = tmp_path_factory.mktemp("weights")
    save(model, dataset, folder)
    return WarmStart.read(folder)


@pytest.fixture(scope="module")
def later(records, tmp_path_factory):
    """Later data: some items and a team are gone, others are new, all ids differ."""

    def moved(record):
        names = {"i0": "new0", "i7": "new7"}
        history = [names.get(item, item) for item in record["history"]]
        target = [names.get(item, item) for item in record["target"]]
        team = {"team-1": "late"}.get(record["team"], record["team"])
        return {**record, "history": history, "target": target, "team": team}

    # Each item once more for the last ones, so that the most frequent ones are others.
    moved_records = {split: [moved(r) for r in rows] for split, rows in records.items()}
    extra = [
        {**moved_records["train"][0], "user_id": f"x{i}", "history": ["i19"] * 8} for i in range(40)
    ]
    moved_records["train"] = moved_records["train"] + extra
    folder = tmp_path_factory.mktemp("later") / "clusters"
    return prepare_tables(moved_records, FEATURES, folder, max_history=8, name="clusters")


def _built(dataset, config):
    keras.utils.set_random_seed(7)
    model = CMCLRec(dataset.schema, config)
    batch = next(iter(dataset.batches("train", 32, shuffle=False)))
    model(batch)
    return model, batch


def _tables(model):
    """Returns {vocabulary: rows} of the tables that have a row for each token."""
    tokens = model.mapper.tokens
    table = np.asarray(tokens.table.embeddings)
    names = [feature.name for feature in tokens.features if not feature.is_numeric]
    tables = {name: table[tokens.rows[name]] for name in names}
    return {"items": np.asarray(model.items.embeddings), **tables}


def test_shared_tokens_get_their_rows_and_new_ones_keep_theirs(
    start, model, dataset, later, config
):
    new, _ = _built(later, config)
    fresh, old = _tables(new), _tables(model)
    start.carry_to(new, later.vocabularies)
    carried = _tables(new)
    moved = 0
    for name in old:
        before, now = (vocabulary.read(data.vocabularies[name]) for data in (dataset, later))
        assert np.array_equal(carried[name][:FIRST_ID], old[name][:FIRST_ID])
        for at, token in enumerate(now):
            row = carried[name][FIRST_ID + at]
            if token in before:
                moved += before.index(token) != at
                assert np.array_equal(row, old[name][FIRST_ID + before.index(token)]), token
            else:
                assert np.array_equal(row, fresh[name][FIRST_ID + at]), token
    gone = set(vocabulary.read(dataset.vocabularies["items"]))
    assert {"new0", "new7"} <= set(vocabulary.read(later.vocabularies["items"])) - gone
    assert moved > 3
    for weight, was in zip(new.backbone.weights, model.backbone.weights, strict=True):
        assert np.array_equal(weight, was)


def test_on_the_same_data_the_model_equals_the_earlier_one(start, model, dataset, config):
    new, batch = _built(dataset, config)
    before = np.asarray(new(batch))
    start.carry_to(new, dataset.vocabularies)
    known = batch["history"], batch["features"], batch["is_cold"]
    assert np.array_equal(new.state(*known), model.state(*known))
    # The prior is not carried: it is fitted again after the training.
    count_popularity(new, dataset)
    fit_prior(new, dataset)
    np.testing.assert_allclose(new(batch), model(batch), rtol=1e-4)
    assert not np.allclose(before, model(batch), atol=0.1)


@pytest.mark.slow
def test_training_begins_at_a_lower_loss_than_from_scratch(start, later, config, monkeypatch):
    losses = {}

    def first_loss(name, **arguments):
        class First(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                losses.setdefault((name, self.model.name), logs["loss"])

        fit = CMCLRec.fit

        def watched(self, *args, callbacks=(), **more):
            return fit(self, *args, callbacks=[*callbacks, First()], **more)

        monkeypatch.setattr(CMCLRec, "fit", watched)
        one = dataclasses.replace(config.finetune, epochs=1)
        trained = train(later, dataclasses.replace(config, finetune=one), **arguments)
        monkeypatch.setattr(CMCLRec, "fit", fit)
        return losses[name, trained.name]

    scratch, warm = first_loss("scratch"), first_loss("warm", start=start)
    assert warm < 0.9 * scratch


@pytest.mark.parametrize(
    ("part", "name", "value", "text"),
    [
        ("model", "width", 8, "model.width=8: the weights .* were trained with 16"),
        ("data", "max_history", 6, "data.max_history=6: the weights .* were trained with 8"),
        ("data", "salt", "1", "data.salt=1: the weights .* were trained with 0"),
    ],
)
def test_weights_of_another_model_are_refused(start, dataset, config, part, name, value, text):
    changed = dataclasses.replace(getattr(config, part), **{name: value})
    with pytest.raises(InputError, match=text):
        train(dataset, dataclasses.replace(config, **{part: changed}), start=start)


def test_weights_of_other_features_are_refused(start, dataset, config):
    fewer = dataclasses.replace(dataset.schema, features=dataset.schema.features[1:])
    with pytest.raises(InputError, match="features.age=nothing: the weights .* with numeric"):
        start.check(fewer, config)
    (age, *rest) = dataset.schema.features
    changed = (dataclasses.replace(age, transform="log"), *rest)
    with pytest.raises(InputError, match="features.age=numeric, .* transform log: the weights"):
        start.check(dataclasses.replace(dataset.schema, features=changed), config)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="a model to start from has weights.npz"):
        WarmStart.read(tmp_path)

"""Bounds of numeric user features: refused where they are wrong, and the same in every path."""

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.data import numeric
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.schema import Feature, Schema

INCOME = Feature("income", "numeric", clip=(0.0, 100.0))


@pytest.mark.parametrize(
    "clip", [(1.0,), (1.0, 2.0, 3.0), (2.0, 1.0), (1.0, 1.0), (0.0, float("inf"))]
)
def test_malformed_bounds_are_refused(clip):
    with pytest.raises(InputError, match="'income' .* with clip=.* a lower and a higher number"):
        Feature("income", "numeric", clip=clip)


def test_only_numbers_have_bounds():
    with pytest.raises(InputError, match="bounds of a numeric feature"):
        Feature("city", clip=(0.0, 1.0))


def test_bounds_survive_json():
    schema = Schema((INCOME,), items=3)
    assert schema.to_dict()["features"][0]["clip"] == [0.0, 100.0]
    assert Schema.from_dict(schema.to_dict()) == schema
    # Digests of results and cache keys of datasets without bounds do not depend on this setting.
    assert "clip" not in Schema((Feature("age", "numeric"),)).to_dict()["features"][0]


def test_statistics_are_those_of_clipped_numbers(tmp_path):
    incomes = [-5.0, 50.0, 999_999_999.0, None]
    users = [
        {"user_id": f"u{n}", "history": ["a", "b"], "target": ["a"], "income": income}
        for n, income in enumerate(incomes)
    ]
    prepare_tables({"train": users}, [INCOME], tmp_path / "data")
    data = PreparedDataset.load(tmp_path / "data")
    (feature,) = data.schema.features
    assert feature.clip == (0.0, 100.0) and feature.mean == 50.0
    assert feature.scale == pytest.approx(np.std([0, 50, 100]))
    (batch,) = data.batches("train", 4, shuffle=False)
    # The model itself clips: a batch holds what the record holds.
    np.testing.assert_allclose(batch["features"]["income"][:, 0], [*incomes[:3], np.nan])


def test_missing_numbers_stay_missing():
    values = tf.constant([np.nan, np.inf, -np.inf, 7.0, 700.0])
    clipped = numeric.transformed(INCOME, values).numpy()
    np.testing.assert_array_equal(clipped, [np.nan, np.inf, -np.inf, 7, 100])


def test_the_model_clips_what_a_request_holds():
    layer = FeatureTokens((INCOME,), 4)
    tokens = layer({"income": tf.constant([[999_999_999.0], [100.0], [-3.0], [0.0]])}).numpy()
    np.testing.assert_array_equal(tokens[0], tokens[1])
    np.testing.assert_array_equal(tokens[2], tokens[3])
    assert (tokens[1] != tokens[3]).any()

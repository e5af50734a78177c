"""Transforms of user features: the values of NumPy, and the same ones in every path."""

import dataclasses
import datetime

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.data import dates, numeric, statistics, vocabulary
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.schema import FIRST_ID, Feature, Schema

# Incomes as people write them: skewed, a third of them 0, one absurd, one negative.
RNG = np.random.default_rng(5)
INCOMES = np.concatenate([np.zeros(100), RNG.lognormal(8, 2, 198), [999_999_999.0, -500.0]]).astype(
    np.float32
)
FEATURES = (
    Feature("plain", "numeric"),
    Feature("log", "numeric", transform="log"),
    Feature("rank", "numeric", transform="quantile"),
    Feature("tails", "numeric", transform="clip"),
    Feature("range", "numeric", bins=10),
    Feature("bounded", "numeric", clip=(0.0, 1e6), transform="log"),
    Feature("birth", "date", as_of="2024-04-30"),
    Feature("generation", "date", as_of="2024-04-30", clip=(0.0, 100.0), bins=4),
    Feature("city"),
    Feature("gender"),
    Feature("place", "cross", of=("city", "gender")),
)
DAYS = RNG.integers(-25_000, 15_000, len(INCOMES))


def users(incomes, days, prefix="u"):
    epoch = datetime.date(1970, 1, 1)
    for number, (income, day) in enumerate(zip(incomes.tolist(), days.tolist(), strict=True)):
        birth = (epoch + datetime.timedelta(days=day)).isoformat()
        yield {
            "user_id": f"{prefix}{number}",
            "history": ["a", "b"],
            "target": ["a"],
            **{f.name: income for f in FEATURES[:6]},
            **dict.fromkeys(("birth", "generation"), birth),
            "city": None if number % 7 == 0 else f"c{number % 3}",
            "gender": f"g{number % 2}",
        }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numeric") / "data"
    # The validation users must not change a statistic.
    val = users(np.full(50, 1e30, np.float32), np.full(50, 20_000), "v")
    prepare_tables({"train": list(users(INCOMES, DAYS)), "val": list(val)}, FEATURES, folder)
    return PreparedDataset.load(folder)


def _feature(data, name):
    return next(feature for feature in data.schema.features if feature.name == name)


def _read(data, name, raw):
    return numeric.transformed(_feature(data, name), tf.constant(raw, tf.float32)).numpy()


def test_logarithms_keep_the_sign(data):
    expected = np.sign(INCOMES) * np.log1p(np.abs(INCOMES))
    np.testing.assert_allclose(_read(data, "log", INCOMES), expected, rtol=1e-5)
    np.testing.assert_allclose(
        _read(data, "bounded", INCOMES), np.log1p(INCOMES.clip(0, 1e6)), rtol=1e-5
    )


def test_tails_are_clipped_at_train_quantiles(data):
    low, high = np.quantile(INCOMES, [0.01, 0.99])
    values = np.append(INCOMES, [1e30, -1e30]).astype(np.float32)
    np.testing.assert_allclose(_read(data, "tails", values), values.clip(low, high), rtol=1e-5)


def test_ranks_lie_between_0_and_1(data):
    ranks = _read(data, "rank", INCOMES)
    smaller = (INCOMES[:, None] > INCOMES).mean(axis=1)
    equal = (INCOMES[:, None] == INCOMES).mean(axis=1)
    np.testing.assert_allclose(ranks, smaller + equal / 2, atol=0.011)
    np.testing.assert_array_equal(_read(data, "rank", [-1e30, 1e30]), [0, 1])
    # Between quantiles the rank is linear, as in NumPy.
    knots = np.array(_feature(data, "rank").quantiles)
    between = np.linspace(knots[50], knots[100], 200).astype(np.float32)
    expected = np.interp(between, knots[50:], np.linspace(0.5, 1, 51))
    np.testing.assert_allclose(_read(data, "rank", between), expected, atol=1e-5)


def test_bins_are_equally_frequent(data):
    feature = _feature(data, "range")
    ids = numeric.bin_ids(feature, tf.constant(INCOMES)).numpy() - FIRST_ID
    edges = np.unique(np.quantile(INCOMES, np.arange(1, 10) / 10).astype(np.float32))
    np.testing.assert_array_equal(ids, np.digitize(INCOMES, edges))
    # A third of the users has 0, which fills more than one of ten bins.
    assert np.bincount(ids).tolist()[1:] == [119, 30, 30, 30, 30, 30, 30] and len(edges) == 7


def test_a_number_that_most_users_have_is_one_bin():
    feature = Feature("n", "numeric", bins=4)
    bounds = numeric.quantiles(feature, np.array([0.0] * 90 + [1.0] * 10, np.float32))
    assert bounds == ()
    ids = numeric.bin_ids(dataclasses.replace(feature, quantiles=bounds), tf.constant([0.0, 9.0]))
    np.testing.assert_array_equal(ids, [FIRST_ID, FIRST_ID])


def test_a_date_is_an_age_in_years(data):
    batch = next(iter(data.batches("train", len(DAYS), shuffle=False)))
    np.testing.assert_array_equal(batch["features"]["birth"][:, 0], DAYS)
    today = datetime.date(2024, 4, 30)
    birthday = (datetime.date(1984, 4, 30) - datetime.date(1970, 1, 1)).days
    assert _read(data, "birth", [birthday]) == pytest.approx(40, abs=0.01)
    ages = ((today - datetime.date(1970, 1, 1)).days - DAYS) / 365.2425
    feature = _feature(data, "birth")
    assert (feature.mean, feature.scale) == pytest.approx((ages.mean(), ages.std()), rel=1e-4)
    generation = _feature(data, "generation")
    ids = numeric.bin_ids(generation, tf.constant(DAYS, tf.float32)).numpy() - FIRST_ID
    expected = np.digitize(ages.clip(0, 100), np.quantile(ages.clip(0, 100), [0.25, 0.5, 0.75]))
    assert (ids == expected).mean() > 0.99


def test_a_cross_has_a_vocabulary_of_the_train_split(data):
    batch = next(iter(data.batches("train", len(DAYS), shuffle=False)))["features"]
    tokens = vocabulary.read(data.vocabularies["place"])
    assert sorted(tokens) == sorted(f"c{c}\x1fg{g}" for c in range(3) for g in range(2))
    for number in range(20):
        (token,) = batch["place"][number].numpy()
        known = "" if number % 7 == 0 else f"c{number % 3}\x1fg{number % 2}"
        assert (tokens[token - FIRST_ID] if token else "") == known


@pytest.mark.parametrize("name", [f.name for f in FEATURES if f.is_numeric])
def test_mean_and_scale_are_those_of_what_the_model_reads(data, name):
    feature = _feature(data, name)
    raw = DAYS if feature.kind == "date" else INCOMES
    values = _read(data, name, raw).astype(np.float64)
    expected = (values.mean(), values.std())
    assert (feature.mean, feature.scale) == pytest.approx(expected, rel=1e-4)


def test_missing_numbers_stay_missing(data):
    missing = [np.nan, np.inf, -np.inf]
    for name in ("log", "rank", "tails", "bounded", "birth"):
        np.testing.assert_array_equal(_read(data, name, missing), missing)


def test_the_model_reads_raw_numbers(data):
    """Values that a transform makes equal have one token and one profile; others do not."""
    features = tuple(f for f in data.schema.features if f.name in ("tails", "range"))
    layer = FeatureTokens(features, 4)
    raw = tf.constant([[1e9], [2e9], [5e3], [np.nan], [np.inf]])
    tokens = layer({"tails": raw, "range": raw}).numpy()
    np.testing.assert_array_equal(tokens[0], tokens[1])
    np.testing.assert_array_equal(tokens[3], tokens[4])
    assert (tokens[0] != tokens[2]).any() and (tokens[2] != tokens[3]).any()
    again = FeatureTokens.from_config(layer.get_config())
    again.build(None)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again({"tails": raw, "range": raw}), tokens)
    for feature in features:
        seen = numeric.as_read(feature, raw).numpy()
        assert seen[0] == seen[1] != seen[2] and np.isnan(seen[3])


@pytest.mark.parametrize("name", ["log", "rank", "tails", "bounded", "birth"])
def test_the_model_standardises_what_a_transform_returns(data, name):
    feature = _feature(data, name)
    plain = Feature(name, "numeric", mean=feature.mean, scale=feature.scale)
    raw = (DAYS if feature.kind == "date" else INCOMES).astype(np.float32)
    layer, other = (FeatureTokens([f], 4) for f in (feature, plain))
    tokens = layer({name: raw[:, None]})
    other.build(None)
    other.set_weights(layer.get_weights())
    expected = other({name: _read(data, name, raw)[:, None]})
    np.testing.assert_allclose(tokens, expected, atol=1e-5)
    assert np.ptp(tokens, axis=0).max() > 0.05
    # The nearest neighbours compare what the model reads, too.
    near = Neighbours([feature], users=len(raw), length=1, most=1)
    near.fields[name].assign(raw[:, None])
    values = _read(data, name, raw)
    similarity = near._similarity(feature, tf.constant(raw[:9, None]))
    distance = np.abs(values[:9, None] - values) / feature.scale
    np.testing.assert_allclose(similarity, np.exp(-distance), atol=1e-4)


def test_schemas_and_descriptions_hold_the_transforms(data):
    assert Schema.from_dict(data.schema.to_dict()) == data.schema
    assert [f.settings for f in data.schema.features] == [f.settings for f in FEATURES]
    plain = Feature("n", "numeric").to_dict()
    assert set(plain) == {"name", "kind", "prefix", "size", "mean", "scale", "numbers"}


def test_a_long_stream_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_NUMBERS", 64)
    sample = statistics._Sample()
    for part in np.split(np.arange(1000, dtype=np.float32), [3, 10, 200, 201, 777]):
        sample.add(part)
    kept = sample.numbers()
    np.testing.assert_array_equal(kept, np.arange(0, 1000, kept[1]))
    assert 32 <= len(kept) <= 64


@given(st.dates() | st.integers(0, 10**4).map(str) | st.text(max_size=12))
@settings(max_examples=50, deadline=None)
def test_python_and_the_graph_read_the_same_dates(value):
    text = str(value)
    expected = dates.days_of(text)
    result = dates.days(tf.constant([text.encode("utf-8", "surrogatepass")])).numpy()
    np.testing.assert_array_equal(result, [np.nan if expected is None else expected])
    if isinstance(value, datetime.date):
        assert expected == (value - datetime.date(1970, 1, 1)).days


def test_times_of_day_do_not_count():
    texts = ["2024-04-30T23:59:59.9Z", " 2024-04-30 07:08 UTC ", "2024-04-30 00:00:00+00:00"]
    assert {dates.days_of(text) for text in texts} == {dates.days_of("2024-04-30")}
    assert len(set(dates.days(tf.constant(texts)).numpy())) == 1
    none = ["2024-02-30", "2023-02-29", "2024-13-01", "2024-00-10", "0000-01-01", "30.4.2024"]
    none += ["2024-04-30T07:08+02:00", "2024-4-30", "2024-04-30x", "", "٢٠٢٤-04-30"]
    assert {dates.days_of(text) for text in none} == {None}
    assert np.isnan(dates.days(tf.constant(none))).all()


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"kind": "numeric", "transform": "logs"}, "transform='logs': .* 'quantile', 'clip'"),
        ({"transform": "log"}, "kind categorical with transform='log': a numeric feature"),
        ({"kind": "numeric", "bins": 1}, "bins=1: .* 2 to 1000 bins"),
        ({"kind": "numeric", "bins": 4, "numbers": 3}, "bins=4: a single number"),
        ({"kind": "multi", "bins": 4}, "bins=4"),
        ({"kind": "numeric", "bins": 4, "transform": "log"}, "transform='log': bins lie between"),
        ({"kind": "date"}, "as_of='': a date, .* such as 2024-04-30"),
        ({"kind": "date", "as_of": "30.4.2024"}, "as_of='30.4.2024'"),
        ({"kind": "numeric", "as_of": "2024-04-30"}, "as_of='2024-04-30': a date, and nothing"),
        ({"kind": "date", "as_of": "2024-04-30", "prefix": 4}, "prefix=4"),
        ({"kind": "cross"}, r"of=\[\]: a cross"),
        ({"kind": "cross", "of": ("a",)}, r"of=\['a'\]"),
        ({"of": ("a", "b")}, "kind categorical with of="),
    ],
)
def test_settings_that_do_not_fit_are_refused(feature, message):
    with pytest.raises(InputError, match=f"user feature 'x' .*{message}"):
        Feature("x", **feature)


def test_a_cross_is_made_of_categorical_features():
    crossed = Feature("both", "cross", of=("city", "age"))
    with pytest.raises(InputError, match=r"'both' of \['city', 'age'\]: .* are \['city'\]"):
        Schema((Feature("city"), Feature("age", "numeric"), crossed))
    with pytest.raises(InputError, match="no user features"):
        Schema((dataclasses.replace(crossed),))


def test_text_that_is_no_date_is_refused(tmp_path):
    user = {"user_id": "u", "history": ["a"], "target": ["a"], "birth": "30.4.2024"}
    with pytest.raises(InputError, match="'30.4.2024' in user feature 'birth' of record 0 of tra"):
        prepare_tables({"train": [user]}, [FEATURES[6]], tmp_path / "data")

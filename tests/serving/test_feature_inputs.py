"""User features of requests and records, in the graph of an export, are those of the training."""

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.data import vocabulary
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.layers.feature_encoder import FeatureTokens
from cmclrec_tf.schema import NUMERIC, Feature
from serving.client.inputs import cold_inputs
from serving.export import warmup
from serving.export.feature_inputs import FeatureInputs
from tests.unit.test_numeric import DAYS, FEATURES, INCOMES, users

USERS = list(users(INCOMES, DAYS))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs") / "data"
    prepare_tables({"train": USERS}, FEATURES, folder)
    return PreparedDataset.load(folder)


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory):
    """The inputs and the feature tokens, saved and loaded as a SavedModel."""
    module = tf.Module()
    module.inputs = FeatureInputs(data.schema, data.vocabularies)
    module.tokens = FeatureTokens(data.schema.features, 4)

    @tf.function(input_signature=[module.inputs.specs()])
    def of_request(inputs):
        features = module.inputs.of_request(inputs)
        return {"tokens": module.tokens(features), **features}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def of_records(examples):
        parsed = tf.io.parse_example(examples, module.inputs.example_spec())
        return {"tokens": module.tokens(module.inputs.of_records(parsed))}

    folder = str(tmp_path_factory.mktemp("saved"))
    module.of_request, module.of_records = of_request, of_records
    signatures = {"request": of_request, "records": of_records}
    tf.saved_model.save(module, folder, signatures=signatures)
    return module, tf.saved_model.load(folder)


def _request(data, rows):
    kinds = {f.name: f.served_kind for f in data.schema.inputs}
    features = [{name: user[name] for name in kinds} for user in rows]
    arrays = cold_inputs(features, kinds)
    return {name: tf.constant(array) for name, array in arrays.items()}


def test_a_request_has_the_features_of_the_training(data, exported):
    module, loaded = exported
    (batch,) = data.batches("train", len(USERS), shuffle=False)
    answer = loaded.of_request(_request(data, USERS))
    for name, values in batch["features"].items():
        np.testing.assert_array_equal(answer[name], values)
    np.testing.assert_allclose(answer["tokens"], module.tokens(batch["features"]), atol=1e-5)


def test_a_record_has_the_tokens_of_its_request(data, exported):
    from pipeline.transforms.encode import to_example

    _, loaded = exported
    names = [feature.name for feature in data.schema.inputs]
    records = []
    for user in USERS[:40]:
        values = {name: user[name] for name in names if user[name] is not None}
        texts = {n: v.encode() if isinstance(v, str) else v for n, v in values.items()}
        record = {name: [texts[name]] if name in texts else [] for name in names}
        records.append(to_example(record, FEATURES))
    tokens = loaded.of_records(tf.constant(records))["tokens"]
    expected = loaded.of_request(_request(data, USERS[:40]))["tokens"]
    np.testing.assert_allclose(tokens, expected, atol=1e-6)


def test_values_that_are_no_features_count_as_missing(data, exported):
    _, loaded = exported
    user = USERS[1]
    missing = {**user, "birth": None, "log": None, "city": None}
    odd = {**user, "birth": "17.5.1990", "log": float("nan"), "city": "nowhere"}
    one, two = (loaded.of_request(_request(data, [row])) for row in (missing, odd))
    np.testing.assert_array_equal(one["tokens"], two["tokens"])
    # The cross of an unknown city is unknown.
    place = [feature.name for feature in FEATURES].index("place")
    known = loaded.of_request(_request(data, [user]))["tokens"]
    assert (one["tokens"][0, place] != known[0, place]).numpy().any()


def test_warmup_requests_hold_every_input(data, exported):
    requests = warmup.requests(data, 2)
    cold = {name: tf.constant(array) for name, array in requests["cold"].items()}
    del cold["exclude"]
    from_records = exported[1].of_records(tf.constant(requests["user_embedding"]["examples"]))
    tokens = exported[1].of_request(cold)["tokens"]
    np.testing.assert_allclose(from_records["tokens"], tokens, atol=1e-6)


def test_a_request_has_no_input_for_a_cross(data, exported):
    assert set(exported[0].inputs.specs()) == {f.name for f in FEATURES} - {"place"}
    assert exported[0].inputs.specs()["birth"].dtype == tf.string


def test_numbers_alone_need_no_vocabulary(tmp_path):
    row = {"history": ["a"], "target": ["b"], "segment": "warm"}
    rows = [{**row, "user_id": f"u{number}", "age": float(number)} for number in range(2)]
    data = prepare_tables({"train": rows}, [Feature("age", NUMERIC)], tmp_path / "data")
    inputs = FeatureInputs(data.schema, data.vocabularies)
    assert inputs.of_request({"age": tf.constant([3.0])})["age"].numpy().tolist() == [[3.0]]


def test_equal_values_of_two_features_have_ids_of_their_own(tmp_path):
    row = {"history": ["a"], "target": ["b"], "segment": "warm"}
    values = [("x", "y"), ("x", "z"), ("x", "z"), ("w", "x")]
    rows = [{**row, "user_id": f"u{i}", "f": f, "g": g} for i, (f, g) in enumerate(values)]
    data = prepare_tables({"train": rows}, [Feature("f"), Feature("g")], tmp_path / "data")
    inputs = FeatureInputs(data.schema, data.vocabularies)
    texts = {"f": ["x", "w", "z", ""], "g": ["x", "z", "w", " z "]}
    features = inputs.of_request({name: tf.constant(text) for name, text in texts.items()})
    for name, text in texts.items():
        alone = vocabulary.Lookup(data.vocabularies[name])
        ids = alone(tf.constant([value.strip() for value in text]))
        np.testing.assert_array_equal(features[name][:, 0], ids)


def test_a_category_more_costs_no_operation(tmp_path):
    """One look-up of ids, and one of vectors, serve all features with one value."""

    def operations(count):
        features = [Feature(f"f{number}") for number in range(count)]
        row = {"history": ["a"], "target": ["b"], "segment": "warm"}
        row |= {feature.name: "x" for feature in features}
        rows = [{**row, "user_id": f"u{number}"} for number in range(2)]
        data = prepare_tables({"train": rows}, features, tmp_path / str(count))
        inputs = FeatureInputs(data.schema, data.vocabularies)
        tokens = FeatureTokens(data.schema.features, 4)
        tokens.build(None)
        answer = tf.function(lambda request: tokens(inputs.of_request(request)))
        return len(answer.get_concrete_function(inputs.specs()).graph.get_operations())

    # Its placeholder is no operation of the graph that runs.
    assert operations(12) - operations(2) == 10

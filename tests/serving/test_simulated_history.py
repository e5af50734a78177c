"""Tests `simulated_history`: the signature of an export, the client and the shell."""

import json

import grpc
import numpy as np
import pytest

from cmclrec_tf.config.sections import ABLATIONS
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.vocabulary import read
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import CMCLRec
from serving import tensor_protos
from serving.c_api.session import SavedModelSession
from serving.client import Client, ServingError, SimulatedHistory, messages, protos
from serving.client import users as batching
from serving.export.saved_model import export
from serving.server.local_server import LocalServer
from tests.conftest import FEATURES, one_quick
from tests.serving.inputs import feature_inputs
from tests.serving.test_recommend_cli import recommend


@pytest.fixture(scope="module")
def cold(records):
    return [user for user in records["test"] if user["segment"] == "cold"]


def test_simulated_history_has_the_nearest_items_of_each_position(session, model, dataset, cold):
    """By cosine, so that the lengths of vectors do not count; PAD and OOV are no items."""
    batch = next(iter(dataset.batches("test", 64)))
    rows = batch["is_cold"].numpy()
    features = {name: values[rows] for name, values in batch["features"].items()}
    vectors, table = np.asarray(model.simulated(features)), np.asarray(model.table)
    cosines = np.einsum("bsd,vd->bsv", vectors, table)
    cosines /= np.linalg.norm(vectors, axis=2)[:, :, None] * np.linalg.norm(table, axis=1)
    cosines[:, :, :2] = -2
    answer = session.run("simulated_history", feature_inputs(cold))
    assert answer["item_ids"].shape == (16, 8, 5)
    np.testing.assert_allclose(answer["scores"], -np.sort(-cosines)[:, :, :5], atol=1e-5)
    place = {name.encode(): i for i, name in enumerate(read(dataset.vocabularies["items"]), 2)}
    ids = np.vectorize(place.get)(answer["item_ids"])
    chosen = np.take_along_axis(cosines, ids, axis=2)
    np.testing.assert_allclose(answer["scores"], chosen, atol=1e-5)


@pytest.mark.parametrize("mapper", one_quick(ABLATIONS, "None"))
def test_every_mapper_simulates_a_history(dataset, config, cold, tmp_path, mapper):
    model = CMCLRec(dataset.schema, config.changed({"model.mapper": mapper, "model.simulated": 3}))
    model(next(iter(dataset.batches("train", 4))))
    with SavedModelSession(export(model, dataset, tmp_path / "export")) as session:
        answer = session.run("simulated_history", feature_inputs(cold))
    assert answer["item_ids"].shape == (16, 3, 5) and b"" not in answer["item_ids"]
    assert np.isfinite(answer["scores"]).all()


@pytest.mark.slow
def test_fewer_items_than_nearest_ones(config, records, tmp_path):
    users = [{**user, "history": ["i1", "i2"], "target": ["i3"]} for user in records["train"][:8]]
    data = prepare_tables({"train": users}, FEATURES, tmp_path / "data", max_history=8)
    model = CMCLRec(data.schema, config)
    model(next(iter(data.batches("train", 4))))
    with SavedModelSession(export(model, data, tmp_path / "export")) as session:
        answer = session.run("simulated_history", feature_inputs(users[:2]))
    assert answer["item_ids"].shape == (2, 8, 3)
    assert {frozenset(row) for row in answer["item_ids"].reshape(-1, 3)} == {
        frozenset((b"i1", b"i2", b"i3"))
    }


def test_simulated_history(client):
    user = {"gender": "d", "genres": ["c", "b"], "age": 3}
    answer = client.simulated_history(user)
    expected = SimulatedHistory((("b", "c"), ("d", "a")), ((0.5625, 0.546875), (0.53125, 0.078125)))
    assert answer == expected and answer.version == 12
    assert client.simulated_history({}).item_ids == (("a", "b"), ("a", "b"))


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ({"history": ["secret"]}, "user feature 'history' of user 0: the model knows ['age'"),
        ({"age": "secret"}, "user feature 'age' of user 0"),
        (["secret"], "user 0 (a list)"),
    ],
)
def test_only_user_features_simulate_a_history(client, user, text):
    with pytest.raises(InputError) as caught:
        client.simulated_history(user)
    assert text in str(caught.value) and "secret" not in str(caught.value)


def test_an_old_export_simulates_no_history(other_model, tmp_path):
    (tmp_path / "cmclrec").mkdir()
    (tmp_path / "cmclrec" / "1").symlink_to(other_model)
    with (
        LocalServer(tmp_path / "cmclrec", port=0) as server,
        Client(f"{server.host}:{server.port}", timeout=30.0) as client,
    ):
        with pytest.raises(ServingError) as caught:
            client.simulated_history({"gender": "a"})
        assert client.cold([{"gender": "a"}])[0].item_ids == ("a", "e", "d")
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "model 'cmclrec' has no signature 'simulated_history', only" in str(caught.value)
    assert "Serve a model that this release of cmclrec exported." in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1, 1), (1, 1, 1, 1)])
def test_an_answer_of_another_shape_is_refused(shape):
    """It may come from another model that happens to have the signature's name."""
    response = protos.PredictResponse()
    tensor_protos.encode(np.full(shape, b"a", object), response.outputs["item_ids"])
    tensor_protos.encode(np.ones(shape, np.float32), response.outputs["scores"])
    (batch,) = batching.batches(batching.simulated([{}]))
    with pytest.raises(ValueError, match="items"):
        messages.simulated_histories(batch, response)


def test_cold_with_the_simulated_history(target):
    arguments = ["cold", "--feature", "gender=d", "--feature", "genres=b", "--target", target]
    done = recommend(*arguments, "--explain", "-k", "1")
    assert done.exit_code == 0, done.output
    first, _, *title, older, newer = done.output.splitlines()
    assert first == "  1  d  22.0000" and "newest last" in title[0]
    assert (older, newer) == ("  1  b 0.56  a 0.08", "  2  d 0.53  a 0.08")
    (line,) = recommend(*arguments, "--explain", "--json").output.splitlines()
    assert json.loads(line)["simulated_history"] == {
        "item_ids": [["b", "a"], ["d", "a"]],
        "scores": [[0.5625, 0.078125], [0.53125, 0.078125]],
    }
    (line,) = recommend(*arguments, "--json").output.splitlines()
    assert "simulated_history" not in json.loads(line)


@pytest.mark.parametrize("arguments", [["warm", "--item", "a"], ["user"], ["many"]])
def test_only_lists_of_cold_are_explained(target, arguments):
    done = recommend(*arguments, "--explain", "--target", target)
    assert done.exit_code == 2
    assert "Run `cmclrec recommend cold --explain --feature NAME=VALUE`." in done.output
    assert "--explain" not in recommend(arguments[0], "--help").output

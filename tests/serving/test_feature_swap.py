"""Tests clients that stay open while a model with other user features is loaded."""

import pytest

from cmclrec_tf.errors import InputError
from serving.client import Client
from serving.server.local_server import LocalServer
from tests.serving.eventually import eventually
from tests.serving.scripted import call_with_tasks


def write_taller(folder):
    """A model with the feature height: "high" comes first from 2 on, otherwise "low"."""
    import tensorflow as tf

    class Taller(tf.Module):
        @tf.function
        def cold(self, height, exclude):
            high = tf.where(height[:, None] >= 2, [[b"high", b"low"]], [[b"low", b"high"]])
            scores = tf.ones_like(height)[:, None] * [[2.0, 1.0]]
            return {"item_ids": high, "scores": scores, "excluded": tf.shape(exclude)[1:]}

    module = Taller()
    specs = (
        tf.TensorSpec([None], tf.float32, name="height"),
        tf.TensorSpec([None, None], tf.string, name="exclude"),
    )
    tf.saved_model.save(module, str(folder), {"cold": module.cold.get_concrete_function(*specs)})


@pytest.fixture
def swapped(saved_model, push, tmp_path):
    """The target of a server of version 1, and a function that makes it serve another model."""
    base = tmp_path / "cmclrec"
    push(base, 1)
    write_taller(tmp_path / "taller")

    with LocalServer(base, port=0, file_system_poll_wait_seconds=0.05) as server:

        def swap():
            (tmp_path / "taller").rename(base / "2")
            eventually(lambda: server.version == 2)

        yield f"{server.host}:{server.port}", swap


def test_features_are_requested_again(swapped):
    target, swap = swapped
    with Client(target, timeout=30.0) as client:
        assert client.cold([{"gender": "d"}])[0].item_ids[0] == "d"
        swap()
        # The client sends the old model's features, and the server refuses them once.
        (answer,) = client.cold([{}])
        assert (answer.item_ids, answer.version) == (("low", "high"), 2)
        assert client.features() == {"height": "numeric"}


def test_a_new_feature_is_found(swapped):
    target, swap = swapped
    with Client(target, timeout=30.0) as client:
        client.cold([{}])
        swap()
        assert client.recommend({"height": 2.5}).item_ids == ("high", "low")


def test_a_removed_feature(swapped):
    target, swap = swapped
    with Client(target, timeout=30.0) as client:
        client.cold([{"gender": "d"}])
        swap()
        with pytest.raises(InputError, match=r"the model knows \['height'\]"):
            client.cold([{"gender": "d"}])


def test_for_asyncio(swapped):
    target, swap = swapped

    async def ask(client):
        await client.cold([{}])
        swap()
        return await client.recommend({"height": 2.5})

    (answer,) = call_with_tasks(target, [ask], timeout=30.0)
    assert answer.item_ids == ("high", "low")


def test_an_unknown_feature_causes_one_more_request(client, monkeypatch):
    client.features()
    calls = []
    make = type(client._model).metadata
    monkeypatch.setattr(
        type(client._model), "metadata", lambda model: calls.append(1) or make(model)
    )
    with pytest.raises(InputError, match="height"):
        client.cold([{"height": 1}])
    assert len(calls) == 1

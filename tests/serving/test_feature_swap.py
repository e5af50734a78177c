"""A client that lives on while the served model comes to have other user features."""

import pytest

from cmclrec_tf.errors import InputError
from serving.client import Client
from serving.server.local_server import LocalServer
from tests.serving.eventually import eventually
from tests.serving.scripted import by_tasks


def write_taller(folder):
    """A model that knows the height alone: "high" comes first from 2 on, else "low"."""
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
    """A running server of version 1, and a function that makes it serve the other model."""
    base = tmp_path / "cmclrec"
    push(base, 1)
    write_taller(tmp_path / "taller")

    with LocalServer(base, port=0, file_system_poll_wait_seconds=0.05) as server:

        def swap():
            (tmp_path / "taller").rename(base / "2")
            eventually(lambda: server.version == 2)

        yield f"{server.host}:{server.port}", swap


def test_features_are_asked_for_again(swapped):
    target, swap = swapped
    with Client(target, timeout=30.0) as client:
        assert client.cold([{"gender": "d"}])[0].item_ids[0] == "d"
        swap()
        # The old model's features, as the client knows them: the server refuses, once.
        (answer,) = client.cold([{}])
        assert (answer.item_ids, answer.version) == (("low", "high"), 2)
        assert client.features() == {"height": "numeric"}


def test_a_new_feature_is_found(swapped):
    target, swap = swapped
    with Client(target, timeout=30.0) as client:
        client.cold([{}])
        swap()
        assert client.recommend({"height": 2.5}).item_ids == ("high", "low")


def test_a_feature_that_is_gone(swapped):
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

    (answer,) = by_tasks(target, [ask], timeout=30.0)
    assert answer.item_ids == ("high", "low")


def test_a_wrong_feature_is_asked_for_once_more_only(client, monkeypatch):
    client.features()
    asked = []
    make = type(client._model).metadata
    monkeypatch.setattr(
        type(client._model), "metadata", lambda model: asked.append(1) or make(model)
    )
    with pytest.raises(InputError, match="height"):
        client.cold([{"height": 1}])
    assert len(asked) == 1

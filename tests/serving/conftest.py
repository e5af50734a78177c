"""Fixtures: a tiny SavedModel with answers that a person can compute, a server and a client.

Items a, b, c, d, e have the base scores 5, 4, 3, 2, 1; lists hold three.
- warm: the item that follows the last item of the history gains 10.
- cold: the item that `gender` names gains 20, items in `genres` gain 10, and e gains `age`.
- user_embedding: [length of the history, age].
- simulated_history: two positions with two items each; an item has a 64th of its base score, and in
  addition 0.5 at the older position if `genres` names it, at the newer one if `gender` does.
"""

import pathlib
import shutil

import pytest

ITEMS = "abcde"
K = 3
VERSION = 12


def write_saved_model(folder, assets, base=(5.0, 4.0, 3.0, 2.0, 1.0), is_old=False):
    """Writes the model; its graph reads the item vocabulary as an asset.

    An old one has no `simulated_history`.
    """
    import tensorflow as tf

    vocabulary = assets / "items"
    vocabulary.write_text("".join(f"{item}\n" for item in ITEMS))
    lines, words = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
    lowest = tf.float32.min

    class Toy(tf.Module):
        def __init__(self):
            super().__init__()
            self.base = tf.Variable(base, name="base")
            self.ids = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(str(vocabulary), tf.string, words, tf.int64, lines),
                -1,
            )
            self.names = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(str(vocabulary), tf.int64, lines, tf.string, words),
                "",
            )

        def marks(self, items):  # [B, n] strings -> [B, V] floats, 1 where named
            hot = tf.one_hot(self.ids.lookup(items), len(ITEMS))
            return tf.minimum(tf.reduce_sum(hot, axis=1), 1.0)

        def lists(self, scores, *excluded):
            for items in excluded:
                scores = tf.where(self.marks(items) > 0, lowest, scores)
            scores, ids = tf.math.top_k(scores, K)
            names = tf.where(scores > lowest, self.names.lookup(tf.cast(ids, tf.int64)), "")
            return {"item_ids": names, "scores": scores}

        def after(self, history):  # [B, n] -> [B, V]
            known = self.ids.lookup(history)  # unknown and "" are -1
            place = tf.where(known >= 0, tf.range(1, tf.shape(known)[1] + 1), 0)
            place = tf.argmax(tf.pad(place, [[0, 0], [1, 0]]), axis=1)
            last = tf.gather(
                tf.pad(known, [[0, 0], [1, 0]], constant_values=-2), place, batch_dims=1
            )
            return tf.one_hot(last + 1, len(ITEMS))

        def profile(self, gender, genres, age):
            old = tf.where(tf.math.is_nan(age), 0.0, age)[:, None] * tf.one_hot(4, 5)[None, :]
            return 20 * self.marks(gender[:, None]) + 10 * self.marks(genres) + old

        @tf.function
        def warm(self, history, exclude):
            return self.lists(self.base + 10 * self.after(history), history, exclude)

        @tf.function
        def cold(self, gender, genres, age, exclude):
            return self.lists(self.base + self.profile(gender, genres, age), exclude)

        def parse(self, examples):
            spec = {
                "history": tf.io.RaggedFeature(tf.string),
                "gender": tf.io.FixedLenFeature([], tf.string, ""),
                "genres": tf.io.RaggedFeature(tf.string),
                "age": tf.io.FixedLenFeature([], tf.float32, float("nan")),
            }
            parsed = tf.io.parse_example(examples, spec)
            dense = {name: parsed[name].to_tensor("") for name in ("history", "genres")}
            return {**parsed, **dense}

        @tf.function
        def serving_default(self, examples):
            x = self.parse(examples)
            is_cold = tf.reduce_all(x["history"] == "", axis=1)
            cold = self.profile(x["gender"], x["genres"], x["age"])
            scores = tf.where(is_cold[:, None], cold, 10 * self.after(x["history"]))
            return {**self.lists(self.base + scores, x["history"]), "is_cold": is_cold}

        @tf.function
        def user_embedding(self, examples):
            x = self.parse(examples)
            length = tf.reduce_sum(tf.cast(x["history"] != "", tf.float32), axis=1)
            return {"embedding": tf.stack([length, x["age"]], axis=1)}

        @tf.function
        def simulated_history(self, gender, genres, age):
            marks = tf.stack([self.marks(genres), self.marks(gender[:, None])], axis=1)
            # Every input counts, as TensorFlow leaves out those that do not.
            age = tf.where(tf.math.is_nan(age), 0.0, age)[:, None, None] * 0
            scores, ids = tf.math.top_k(self.base / 64 + marks / 2 + age, 2)
            return {"item_ids": self.names.lookup(tf.cast(ids, tf.int64)), "scores": scores}

    text = lambda name, rank: tf.TensorSpec([None] * rank, tf.string, name=name)
    exclude = text("exclude", 2)
    age = tf.TensorSpec([None], tf.float32, name="age")
    toy = Toy()
    signatures = {
        "warm": toy.warm.get_concrete_function(text("history", 2), exclude),
        "cold": toy.cold.get_concrete_function(text("gender", 1), text("genres", 2), age, exclude),
        "serving_default": toy.serving_default.get_concrete_function(text("examples", 1)),
        "user_embedding": toy.user_embedding.get_concrete_function(text("examples", 1)),
    }
    if not is_old:
        signatures["simulated_history"] = toy.simulated_history.get_concrete_function(
            text("gender", 1), text("genres", 2), age
        )
    tf.saved_model.save(toy, str(folder), signatures)
    # An export must not depend on the file that it was made from.
    vocabulary.unlink()


@pytest.fixture(scope="session")
def base_path(tmp_path_factory):
    """A model base path: version 12 works, 3 is empty, and 99-aside is not a version."""
    base = tmp_path_factory.mktemp("models") / "cmclrec"
    write_saved_model(base / str(VERSION), tmp_path_factory.mktemp("assets"))
    (base / "3").mkdir()
    (base / "99-aside").mkdir()
    return base


@pytest.fixture(scope="session")
def saved_model(base_path):
    return base_path / str(VERSION)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    """An old model of the same items with base scores 1 to 5: e comes first."""
    folder = tmp_path_factory.mktemp("other") / "saved_model"
    base = (1.0, 2.0, 3.0, 4.0, 5.0)
    write_saved_model(folder, tmp_path_factory.mktemp("assets"), base, is_old=True)
    return folder


@pytest.fixture
def push(saved_model, other_model, tmp_path):
    """Pushes a model to a base path by one rename: push(base, 2, other=True)."""

    def pushed(base, version, other=False, damage=None):
        copy = tmp_path / f"aside-{version}"
        shutil.copytree(other_model if other else saved_model, copy)
        if damage:
            damage(copy)
        base.mkdir(exist_ok=True)
        return copy.rename(base / str(version))

    return pushed


@pytest.fixture(scope="session")
def server(base_path):
    from serving.server.local_server import LocalServer

    with LocalServer(base_path, port=0) as running:
        yield running


@pytest.fixture(scope="session")
def target(server):
    return f"{server.host}:{server.port}"


@pytest.fixture(scope="module")
def rest(base_path):
    """A server with a REST interface."""
    from serving.server.local_server import LocalServer

    with LocalServer(base_path, port=0, rest_api_port=0) as running:
        yield running


@pytest.fixture
def still_answers(rest):
    """After the test the server with REST still answers a valid request."""
    from tests.serving.rest_requests import ANSWER, ROW, predict

    yield
    status, answer = predict(rest, {"signature_name": "warm", "instances": [ROW]})
    assert (status, answer) == (200, {"predictions": [ANSWER]})


@pytest.fixture
def client(target):
    from serving.client import Client

    with Client(target, timeout=30.0) as running:
        yield running


@pytest.fixture
def copied_model(saved_model, tmp_path):
    """A base path with a copy of the model as version 1, which a test may damage."""
    base = tmp_path / "cmclrec"
    shutil.copytree(saved_model, base / "1")
    return pathlib.Path(base)


@pytest.fixture(scope="session")
def example():
    """A function that makes a serialized user record; a list's first value decides its type."""

    def make(**features):
        from tensorflow.core.example import example_pb2

        record = example_pb2.Example()
        for name, values in features.items():
            feature = record.features.feature[name]
            if values and isinstance(values[0], float):
                feature.float_list.value.extend(values)
            else:
                feature.bytes_list.value.extend(value.encode() for value in values)
        return record.SerializeToString()

    return make

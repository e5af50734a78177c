"""Tests retrieval indexes, in processes that start with Keras 2 as `tf.keras`."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf  # noqa: F401  a test below needs it to be imported

from cmclrec_tf.errors import InputError
from serving import retrieval
from tests.serving.inputs import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_recommenders") is None,
        reason="the extra `retrieval` is not installed",
    ),
]
needs_scann = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="there is no ScaNN for this Python"
)


def _start(*arguments):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop(retrieval.LEGACY, None)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def lists(exported, session, records):
    """The served graph's lists and embeddings of some users, and the users' histories."""
    users = records["train"][:12]
    examples = {"examples": np.array([record(user) for user in users], object)}
    served = session.run("serving_default", examples)
    embeddings = session.run("user_embedding", examples)["embedding"]
    return served, embeddings, [user["history"] for user in users]


@pytest.fixture(scope="module")
def results(exported, lists, tmp_path_factory):
    served, embeddings, histories = lists
    path = tmp_path_factory.mktemp("index") / "queries.json"
    k = served["item_ids"].shape[1]
    queries = {"embeddings": embeddings.tolist(), "histories": histories, "k": k}
    path.write_text(json.dumps(queries))
    done = _start("-m", "tests.serving.retrieval_process", exported, path)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["brute_force", "streaming"])
def test_exact_kinds_find_what_the_served_graph_lists(results, lists, kind):
    served, _, _ = lists
    names = [[item.decode() for item in row] for row in served["item_ids"]]
    assert results["served"][kind]["ids"] == names
    np.testing.assert_allclose(results["served"][kind]["scores"], served["scores"], rtol=1e-4)


@pytest.mark.parametrize("kind", ["brute_force", "streaming"])
def test_exact_kinds_find_the_best_of_many(results, kind):
    random = results["random"]
    assert random["lists"][kind] == random["exact"]
    assert random["excluded"][kind] == random["rest"]


@needs_scann
def test_scann_finds_most_of_them(results):
    random = results["random"]
    pairs = zip(random["lists"]["scann"], random["exact"], strict=True)
    mean = np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])
    assert mean >= 0.5
    assert random["recall"] == pytest.approx(mean)


@pytest.mark.parametrize(
    "kind", ["brute_force", "streaming", pytest.param("scann", marks=needs_scann)]
)
def test_excluded_items_never_come_back(results, lists, kind):
    random = results["random"]
    for row, best in zip(random["excluded"][kind], random["exact"], strict=True):
        assert not set(row) & set(best[:7])
    for row, history in zip(results["served"][kind]["ids"], lists[2], strict=True):
        assert not set(row) & set(history)
    assert results["served"][kind]["nothing left"] == [["", "", ""]]


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("width", "model's are"),
        ("lists", "64 users"),
        ("k", "k=0"),
        ("kind", "kinds are"),
        ("folder", "exported version"),
    ],
)
def test_errors_say_what_is_wrong(results, case, text):
    assert text in results["errors"][case]


def test_tensorflow_must_not_be_imported_before(monkeypatch, exported):
    monkeypatch.delenv(retrieval.LEGACY, raising=False)
    with pytest.raises(InputError, match="before TensorFlow is imported"):
        retrieval.Index.build(exported)


def test_a_missing_extra_is_named(monkeypatch, exported):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "scann" else find(n))
    with pytest.raises(InputError, match=r"scann.*cmclrec-tf\[retrieval\].*brute_force"):
        retrieval.Index.build(exported, "scann")


@pytest.mark.parametrize("kind", ["streaming", pytest.param("scann", marks=needs_scann)])
def test_the_command_prints_recall_and_speed(exported, kind):
    code = "from serving.commands.index import index; index()"
    done = _start("-c", code, exported, "-k", 5, "--random-items", 500, "--kind", kind)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "items 500" in done.stdout and "recall@5 against exact: " in done.stdout
    assert "queries/s" in done.stdout

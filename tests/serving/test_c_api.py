"""Tests `SavedModelSession`: answers computed by hand, and those of TensorFlow's own loader."""

import pathlib
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest

from serving.c_api.session import SavedModelError, SavedModelSession
from serving.contract import SIGNATURES

LOWEST = np.finfo(np.float32).min
NONE = np.array([[""]])


@pytest.fixture(scope="module")
def session(saved_model):
    with SavedModelSession(saved_model) as loaded:
        yield loaded


def test_signatures(session):
    assert set(session.signatures) == set(SIGNATURES)
    assert set(session.signatures["cold"].inputs) == {"gender", "genres", "age", "exclude"}


def test_warm(session):
    answer = session.run("warm", {"history": [["a", "b"], ["d", ""]], "exclude": [[""], ["a"]]})
    assert answer["item_ids"].tolist() == [[b"c", b"d", b"e"], [b"e", b"b", b"c"]]
    assert answer["scores"].tolist() == [[13, 2, 1], [11, 4, 3]]
    assert answer["scores"].dtype == np.float32


def test_cold(session):
    inputs = {
        "gender": np.array(["d", ""]),
        "genres": np.array([["c", "e"], ["", ""]]),
        "age": np.array([0.5, np.nan], np.float32),
        "exclude": np.array([[""], [""]]),
    }
    answer = session.run("cold", inputs)
    assert answer["item_ids"].tolist() == [[b"d", b"c", b"e"], [b"a", b"b", b"c"]]
    assert answer["scores"].tolist() == [[22, 13, 11.5], [5, 4, 3]]


def test_fewer_items_than_the_list_holds(session):
    answer = session.run("warm", {"history": [["a", "b"]], "exclude": [["c", "d"]]})
    assert answer["item_ids"].tolist() == [[b"e", b"", b""]]
    assert answer["scores"].tolist() == [[1, LOWEST, LOWEST]]


@pytest.mark.parametrize(
    "strings", [[["a", "b"]], np.array([["a", "b"]]), np.array([[b"a", b"b"]])]
)
def test_kinds_of_strings(session, strings):
    answer = session.run("warm", {"history": strings, "exclude": NONE})
    assert answer["item_ids"][0, 0] == b"c"


def test_bool_output_and_one_output(session, example):
    examples = np.array([example(history=["a"]), example(gender=["e"])], object)
    answer = session.run("serving_default", {"examples": examples}, outputs=["is_cold"])
    assert list(answer) == ["is_cold"]
    assert answer["is_cold"].tolist() == [False, True]


def test_empty_dimensions(session):
    answer = session.run("warm", {"history": np.empty((2, 0), object), "exclude": [[], []]})
    assert answer["item_ids"].tolist() == [[b"a", b"b", b"c"]] * 2
    answer = session.run(
        "warm", {"history": np.empty((0, 3), object), "exclude": np.empty((0, 1), object)}
    )
    assert answer["item_ids"].shape == (0, 3)
    assert answer["scores"].shape == (0, 3)


def test_long_strings_survive(session, example):
    """TensorFlow stores strings over 22 bytes on the heap; records are such strings."""
    padding = ["x" * size for size in (21, 22, 23, 24, 4000)]
    answer = session.run("serving_default", {"examples": [example(history=[*padding, "a", "b"])]})
    assert answer["item_ids"][0, 0] == b"c"
    answer = session.run("warm", {"history": [[*padding, "b"]], "exclude": NONE})
    assert answer["item_ids"][0, 0] == b"c"


def test_same_as_the_v1_loader(session, saved_model, example):
    import tensorflow as tf

    examples = [
        example(history=["a", "zzz", "c"], age=[3.0]),
        example(gender=["b"], genres=["c", "a"]),
        example(),
    ]
    requests = {
        "warm": {"history": [["e", "a"], ["", "q"]], "exclude": [["b"], [""]]},
        "cold": {
            "gender": ["a", "d"],
            "genres": [["b"], [""]],
            "age": np.array([7, np.nan], np.float32),
            "exclude": [["e"], [""]],
        },
        "serving_default": {"examples": examples},
        "user_embedding": {"examples": examples},
    }
    with tf.Graph().as_default(), tf.compat.v1.Session() as v1:
        loaded = tf.compat.v1.saved_model.loader.load(v1, ["serve"], str(saved_model))
        for name, inputs in requests.items():
            signature = loaded.signature_def[name]
            expected = v1.run(
                {key: info.name for key, info in signature.outputs.items()},
                {signature.inputs[key].name: value for key, value in inputs.items()},
            )
            answer = session.run(name, inputs)
            assert set(answer) == set(expected)
            for key, value in expected.items():
                np.testing.assert_array_equal(answer[key], value)


@pytest.mark.parametrize(
    ("signature", "inputs", "outputs", "code", "text"),
    [
        ("hot", {}, None, 5, "'hot'"),
        ("warm", {"history": [["a"]]}, None, 3, "expected ['exclude', 'history']"),
        ("warm", {"history": [["a"]], "exclude": [[1]]}, None, 3, "'exclude': int64"),
        ("warm", {"history": [["a"]], "exclude": np.array([[None]])}, None, 3, "NoneType"),
        ("warm", {"history": [["a"]], "exclude": NONE}, ["score"], 3, "['score']"),
        ("serving_default", {"examples": [b"\xff\xff"]}, None, 3, "parse"),
    ],
)
def test_bad_requests(session, signature, inputs, outputs, code, text):
    with pytest.raises(SavedModelError) as caught:
        session.run(signature, inputs, outputs)
    assert caught.value.code == code
    assert text in caught.value.message
    assert "\n" not in str(caught.value)
    answer = session.run("warm", {"history": [["a"]], "exclude": NONE})
    assert answer["item_ids"][0, 0] == b"b"


def test_not_a_saved_model(tmp_path):
    with pytest.raises(SavedModelError) as caught:
        SavedModelSession(tmp_path)
    assert caught.value.code == 5


def test_missing_variables(copied_model):
    for shard in (copied_model / "1" / "variables").glob("*.data-*"):
        shard.unlink()
    with pytest.raises(SavedModelError):
        SavedModelSession(copied_model / "1")


def test_threads_share_a_session(session):
    wrong = []

    def ask(item, expected):
        for _ in range(50):
            answer = session.run("warm", {"history": [[item]], "exclude": NONE})
            if answer["item_ids"][0, 0] != expected:
                wrong.append((item, answer))

    threads = [
        threading.Thread(target=ask, args=pair)
        for pair in zip("abcd", [b"b", b"c", b"d", b"e"], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closed_session(saved_model):
    session = SavedModelSession(saved_model, intra_op_threads=1, inter_op_threads=1)
    session.close()
    session.close()
    with pytest.raises(SavedModelError) as caught:
        session.run("warm", {"history": NONE, "exclude": NONE})
    assert "closed" in caught.value.message


def test_memory_stays_level(session):
    """Neither the inputs nor the outputs of a request leak."""
    resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    inputs = {"history": [["x" * 100_000] * 20], "exclude": NONE}
    for _ in range(5):
        session.run("warm", inputs)
    before = resident()
    for _ in range(100):  # 200 MB in all
        session.run("warm", inputs)
    assert (resident() - before) * resource.getpagesize() < 50e6


def test_library_is_found_without_importing_tensorflow():
    code = (
        "import sys; from serving.c_api import library; library = library.load();"
        "assert 'tensorflow' not in sys.modules; print(library.TF_Version().decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2.")

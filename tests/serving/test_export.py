"""Tests the exported model: its signatures, and equal answers from all loaders."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.config import Config
from cmclrec_tf.data.toy import toy_dataset
from cmclrec_tf.data.vocabulary import read
from cmclrec_tf.models import CMCLRec
from cmclrec_tf.training import train
from serving.c_api.session import SavedModelSession
from serving.export import item_table
from serving.export.saved_model import export
from tests.conftest import FEATURES
from tests.serving.inputs import cold_inputs, record, warm_inputs

NAMES = [feature.name for feature in FEATURES]
GOLDEN = pathlib.Path(__file__).with_name("golden_signatures.json")

# Runs in a process that imports nothing of this project.
V1_LOADER = """
import json, sys
import numpy as np
import tensorflow as tf
folder, path = sys.argv[1:]
requests = json.loads(open(path).read())
answers = {}
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], folder)
    for name, inputs in requests.items():
        signature = graph.signature_def[name]
        feed = {
            signature.inputs[key].name: np.array(
                value, np.float32 if signature.inputs[key].dtype == 1 else object
            ).reshape([len(value), -1][: signature.inputs[key].tensor_shape.dim.__len__()])
            for key, value in inputs.items()
        }
        outputs = {key: info.name for key, info in signature.outputs.items()}
        got = session.run(outputs, feed)
        answers[name] = {
            key: [[v.decode() if isinstance(v, bytes) else float(v) for v in np.atleast_1d(row)]
                  for row in value]
            for key, value in got.items()
        }
assert not any(name.startswith(("cmclrec_tf", "serving")) for name in sys.modules)
print("ANSWERS" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def users(records):
    return {
        segment: [r for r in records["test"] if r["segment"] == segment]
        for segment in ("warm", "cold")
    }


def expected(model, dataset, segment, states=None):
    """The Keras model's scores of every item, for the test users of a segment.

    The states are those of histories and user features together, or what `states` returns.
    """
    batch = next(iter(dataset.batches("test", 64)))
    rows = batch["is_cold"].numpy() == (segment == "cold")
    scores = np.asarray(model.score((states or model)(batch)))[rows]
    names = np.array(["", "", *read(dataset.vocabularies["items"])])
    return scores, names


def check_against_keras(answer, scores, names, histories):
    rows = zip(answer["item_ids"], answer["scores"], scores, histories, strict=True)
    for ids, served_scores, all_scores, history in rows:
        ids = [i.decode() if isinstance(i, bytes) else i for i in ids]
        allowed = [i for i in range(2, len(names)) if names[i] not in history]
        best = sorted(allowed, key=lambda i: -all_scores[i])[: len(ids)]
        np.testing.assert_allclose(served_scores, all_scores[best], atol=1e-5)
        place = {name: i for i, name in enumerate(names)}
        np.testing.assert_allclose(served_scores, [all_scores[place[i]] for i in ids], atol=1e-5)


def test_signatures_are_the_contract(session):
    """Names, dtypes and shapes are those in a golden file."""
    signatures = {
        name: {
            side: {
                key: [tf.dtypes.as_dtype(info.dtype).name, [d.size for d in info.tensor_shape.dim]]
                for key, info in sorted(getattr(signature, side).items())
            }
            for side in ("inputs", "outputs")
        }
        for name, signature in sorted(session.signatures.items())
    }
    assert signatures == json.loads(GOLDEN.read_text())


def test_warm_equals_keras(session, model, dataset, users):
    histories = [user["history"] for user in users["warm"]]
    answer = session.run("warm", warm_inputs(histories))
    assert answer["item_ids"].shape == (16, 10)
    warm_states = lambda batch: model.warm_states(batch["history"])
    check_against_keras(answer, *expected(model, dataset, "warm", warm_states), histories)


def test_cold_equals_keras(session, model, dataset, users):
    answer = session.run("cold", cold_inputs(users["cold"]))
    cold_states = lambda batch: model.cold_states(batch["features"])
    check_against_keras(answer, *expected(model, dataset, "cold", cold_states), [[]] * 16)


def test_serving_default_reads_histories_and_user_features_together(session, model, dataset, users):
    mixed = [user for pair in zip(users["warm"], users["cold"], strict=True) for user in pair]
    examples = {"examples": np.array([record(user) for user in mixed], object)}
    answer = session.run("serving_default", examples)
    np.testing.assert_array_equal(answer["is_cold"], [False, True] * 16)
    lengths = [len(user["history"]) for user in mixed]
    np.testing.assert_array_equal(answer["known_items"], lengths)
    warm = {name: answer[name][::2] for name in ("item_ids", "scores")}
    histories = [user["history"] for user in users["warm"]]
    check_against_keras(warm, *expected(model, dataset, "warm"), histories)
    cold = session.run("cold", cold_inputs(users["cold"]))
    np.testing.assert_array_equal(answer["item_ids"][1::2], cold["item_ids"])
    np.testing.assert_allclose(answer["scores"][1::2], cold["scores"], atol=1e-5)


def test_user_features_of_warm_users_count_in_serving_default(session, users):
    """Two users with one history and other features get other scores."""
    other = [{**user, **{f: users["cold"][1][f] for f in NAMES}} for user in users["warm"]]
    ours, theirs = (
        session.run("serving_default", {"examples": np.array([record(u) for u in rows], object)})
        for rows in (users["warm"], other)
    )
    assert not np.allclose(ours["scores"], theirs["scores"], atol=1e-3)


@pytest.mark.parametrize("segment", ["warm", "cold"])
def test_user_embedding_scores_the_item_table(session, model, dataset, users, segment):
    examples = np.array([record(user) for user in users[segment]], object)
    states = session.run("user_embedding", {"examples": examples})["embedding"]
    scores, _ = expected(model, dataset, segment)
    # The popularity prior is two more dimensions.
    table = np.concatenate([np.asarray(v) for v in model.item_variables], axis=1)
    assert states.shape[1] == table.shape[1] == model.config.model.width + 2
    np.testing.assert_allclose((states @ table.T)[:, 2:], scores[:, 2:], atol=1e-4)


def test_an_expert_is_part_of_the_embedding_and_of_cold_lists(dataset, config, users, tmp_path):
    model = CMCLRec(dataset.schema, config.changed({"model.expert_width": 5}))
    model(next(iter(dataset.batches("test", 4))))
    model.prior.coefficients.assign([[0.1, 0.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0]])
    export(model, dataset, tmp_path / "1")
    table = item_table.read(tmp_path / "1")
    with SavedModelSession(tmp_path / "1") as session:
        examples = np.array([record(user) for user in users["cold"]], object)
        embedding = session.run("user_embedding", {"examples": examples})["embedding"]
        cold = session.run("cold", cold_inputs(users["cold"]))
    assert embedding.shape[1] == table.vectors.shape[1] == config.model.width + 2 + 5
    assert np.abs(embedding[:, -5:]).min(axis=0).any()
    scores = table.queries(embedding) @ table.vectors.T
    best = scores.argmax(axis=1)
    assert [table.ids[i] for i in best] == [row[0].decode() for row in cold["item_ids"]]
    np.testing.assert_allclose(cold["scores"][:, 0], scores.max(axis=1), atol=1e-4)


def test_the_v1_loader_answers_the_same_without_this_package(exported, session, users, tmp_path):
    warm = warm_inputs([user["history"] for user in users["warm"]], [["i1"]] * 16)
    cold = cold_inputs(users["cold"], [["i1"]] * 16)
    requests = {
        name: {key: value.tolist() for key, value in inputs.items()}
        for name, inputs in (("warm", warm), ("cold", cold))
    }
    path = tmp_path / "requests.json"
    path.write_text(json.dumps(requests))
    done = subprocess.run(
        [sys.executable, "-c", V1_LOADER, str(exported), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.split("ANSWERS")[1])
    for name, inputs in (("warm", warm), ("cold", cold)):
        ours = session.run(name, inputs)
        decoded = [[item.decode() for item in row] for row in ours["item_ids"]]
        assert answers[name]["item_ids"] == decoded
        np.testing.assert_allclose(answers[name]["scores"], ours["scores"], atol=1e-5)


def test_history_and_exclude_never_come_back(session, users):
    histories = [user["history"] for user in users["warm"]]
    exclude = [["i3", "i17", "unheard of"]] * 16
    for ids, history in zip(
        session.run("warm", warm_inputs(histories, exclude))["item_ids"], histories, strict=True
    ):
        listed = {item.decode() for item in ids}
        assert len(listed) == 10 and not listed & {*history, "i3", "i17", ""}
    cold = session.run("cold", cold_inputs(users["cold"], exclude))["item_ids"]
    assert not {b"i3", b"i17", b""} & set(cold.ravel())


def test_fewer_than_k_items_left_end_in_empty_strings(session, users):
    excluded = [f"i{n}" for n in range(18)]
    answer = session.run("cold", cold_inputs(users["cold"][:1], [excluded]))
    assert set(answer["item_ids"][0, :2]) == {b"i18", b"i19"}
    assert set(answer["item_ids"][0, 2:]) == {b""}
    np.testing.assert_array_equal(answer["scores"][0, 2:], np.finfo(np.float32).min)


def test_padding_and_unknown_items_make_no_difference(session):
    plain = session.run("warm", warm_inputs([["i2", "i3", "i4"]]))
    noisy = session.run("warm", warm_inputs([["", "i2", "nothing", "i3", "i4", "", ""]]))
    np.testing.assert_array_equal(plain["item_ids"], noisy["item_ids"])
    np.testing.assert_allclose(plain["scores"], noisy["scores"], atol=1e-5)
    assert plain["known_items"].tolist() == noisy["known_items"].tolist() == [3]


def test_only_the_newest_items_count_and_all_are_excluded(session):
    tail = [f"i{n}" for n in range(11, 19)]
    long = session.run("warm", warm_inputs([[*[f"i{n}" for n in range(8)], *tail]]))
    short = session.run("warm", warm_inputs([tail], [[f"i{n}" for n in range(8)]]))
    np.testing.assert_array_equal(long["item_ids"], short["item_ids"])
    assert (long["known_items"].tolist(), short["known_items"].tolist()) == ([16], [8])


@pytest.mark.parametrize("history", [[""], ["nothing", "known"], []])
def test_a_history_without_a_known_item_still_gets_a_list(session, dataset, history):
    """`warm` falls back to the most popular items; a record takes the cold path."""
    answer = session.run("warm", warm_inputs([history]))
    popular = read(dataset.vocabularies["items"])[:10]
    assert [item.decode() for item in answer["item_ids"][0]] == popular
    user = {"history": history, "age": 50.0, "team": "team-1", "tags": [], "zip": "1"}
    default = session.run("serving_default", {"examples": np.array([record(user)], object)})
    assert default["is_cold"].tolist() == [True]
    assert answer["known_items"].tolist() == default["known_items"].tolist() == [0]


def test_missing_unknown_and_unbounded_user_features_give_finite_scores(session, users):
    nobody = {"age": None, "team": "", "tags": [], "zip": ""}
    odd = {"age": np.inf, "team": "team-\x00é", "tags": ["?"], "zip": "é\x00"}
    answer = session.run("cold", cold_inputs([nobody, odd]))
    assert np.all(np.isfinite(answer["scores"]))
    empty = session.run("serving_default", {"examples": np.array([b""], object)})
    np.testing.assert_array_equal(empty["item_ids"][0], answer["item_ids"][0])


def test_two_new_users_get_different_lists(session, users):
    lists = session.run("cold", cold_inputs(users["cold"][:2]))["item_ids"]
    assert set(lists[0]) != set(lists[1])


@pytest.mark.slow
def test_a_model_of_half_precision_answers_in_float32(tmp_path):
    """Masks and special ids keep scores that float16 cannot hold."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        data = toy_dataset()
        config = Config.from_dict(
            {
                "data": {"max_history": 6},
                "model": {"width": 16, "latent": 8},
                "pretrain": {"epochs": 1, "batch_size": 32},
                "finetune": {"epochs": 3, "batch_size": 32},
            }
        )
        export(train(data, config), data, tmp_path / "1")
    finally:
        keras.config.set_dtype_policy("float32")
    with SavedModelSession(tmp_path / "1") as session:
        history = np.array([["books-1", "books-2"]], object)
        none = np.array([[""]], object)
        warm = session.run("warm", {"history": history, "exclude": none})
        group, age = np.array(["books"], object), np.array([np.nan], np.float32)
        cold = session.run("cold", {"group": group, "age": age, "exclude": none})
    assert warm["scores"].dtype == cold["scores"].dtype == np.float32
    assert not {b"books-1", b"books-2"} & set(warm["item_ids"][0].tolist())
    for answer in (warm, cold):
        assert np.isfinite(answer["scores"]).all()
        assert (np.diff(answer["scores"][0]) <= 0).all()
        top = [name.decode().split("-")[0] for name in answer["item_ids"][0][:5].tolist()]
        assert top == ["books"] * 5

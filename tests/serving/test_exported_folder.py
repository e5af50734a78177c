"""Tests the files of an export, and that an export is complete or absent."""

import keyword
import shutil

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import operations
from cmclrec_tf.data import vocabulary
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import CMCLRec
from cmclrec_tf.schema import Feature
from serving.c_api.session import SavedModelSession
from serving.contract import WARMUP_FILE
from serving.export import warmup
from serving.export.saved_model import export
from tests.conftest import FEATURES
from tests.serving.inputs import warm_inputs


def test_no_custom_op_no_python_no_absolute_path(exported):
    from tensorflow.core.protobuf import saved_model_pb2

    serialized = (exported / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(serialized).meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for function in graph.library.function for n in function.node_def)]
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
    # The ops of the installed runtime; any other op is a custom op.
    known = tf.raw_ops.__dict__
    functions = {function.signature.name for function in graph.library.function}
    assert {node.op for node in nodes} - functions <= set(known)
    assert not any(node.attr["_XlaMustCompile"].b for node in nodes)
    assert str(exported.parent).encode() not in serialized
    assets = sorted(path.name for path in (exported / "assets").iterdir())
    assert assets == ["items", "tags"]


def test_it_can_be_moved(exported, session, tmp_path):
    moved = tmp_path / "elsewhere" / "7"
    shutil.copytree(exported, moved)
    with SavedModelSession(moved) as other:
        inputs = warm_inputs([["i1", "i2"]])
        np.testing.assert_array_equal(
            other.run("warm", inputs)["item_ids"], session.run("warm", inputs)["item_ids"]
        )


def test_warmup_requests_cover_every_signature_and_run(exported, session):
    from tensorflow_serving.apis import prediction_log_pb2

    batches = []
    for serialized in tf.data.TFRecordDataset(str(exported / WARMUP_FILE)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(serialized).predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        rows = {len(value) for value in inputs.values()}
        assert all(len(v) in rows for v in session.run(name, inputs).values())
        batches.append((name, *rows))
    assert sorted(batches) == sorted((n, b) for n in session.signatures for b in warmup.BATCH_SIZES)


def test_a_request_runs_few_operations(session, dataset, tmp_path):
    """An operation costs a request about 2 us, however small it is."""
    counts = {}
    for name, inputs in warmup.requests(dataset, 1).items():
        session.run(name, inputs)
        with tf.profiler.experimental.Profile(str(tmp_path / name)):
            session.run(name, inputs)
        counts[name] = sum(runs for _, runs in operations.by_kind(tmp_path / name).values())
    most = {"warm": 240, "cold": 245, "serving_default": 385, "user_embedding": 360}
    assert {name: count for name, count in counts.items() if count > most.get(name, 340)} == {}


def test_an_export_never_overwrites_and_leaves_nothing_half_written(
    model, dataset, exported, tmp_path, monkeypatch
):
    with pytest.raises(InputError, match="new folder"):
        export(model, dataset, exported)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(warmup, "write", fail)
    with pytest.raises(InputError, match="disk full"):
        export(model, dataset, tmp_path / "model" / "1")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize("renamed", [{}, {"i3": "i3b"}])
def test_another_datasets_vocabularies_are_refused(model, records, tmp_path, renamed):
    """Another dataset has fewer items, or as many of which one has another name."""
    train = records["train"] if renamed else records["train"][:3]
    train = [
        {**user, **{f: [renamed.get(i, i) for i in user[f]] for f in ("history", "target")}}
        for user in train
    ]
    other = prepare_tables({"train": train}, FEATURES, tmp_path / "other", max_history=8)
    with pytest.raises(InputError, match="vocabularies"):
        export(model, other, tmp_path / "model")


def test_ids_that_are_not_utf8_are_served_unchanged(records, config, tmp_path):
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    users = [{**user, "target": [odd], "zip": "Éa"} for user in records["train"]]
    data = prepare_tables({"train": users}, FEATURES, tmp_path / "data", max_history=8)
    model = CMCLRec(data.schema, config)
    model(next(iter(data.batches("train", 8))))
    with SavedModelSession(export(model, data, tmp_path / "model" / "1")) as session:
        lists = session.run("warm", warm_inputs([[]]))["item_ids"][0]
    assert lists[0] == b"caf\xe9"  # the most popular item


# Names that have a meaning somewhere: Python, Keras, TensorFlow, TFX, TFMA, the signatures, REST.
NASTY_NAMES = {
    *keyword.kwlist,
    *("cls", "args", "kwargs", "print", "list", "dict", "str", "object", "captures", "func"),
    *("inputs", "outputs", "training", "mask", "name", "call", "build", "data", "dtype", "shape"),
    *("item_ids", "scores", "is_cold", "embedding", "known_items", "source", "simulated_history"),
    *("serving_default", "warm", "cold", "user_embedding", "overall", "train", "val", "test"),
    *("instances", "signature_name", "predictions", "b64", "model_spec", "feature", "features"),
    *("label", "labels", "example_weights", "weights", "baseline", "candidate", "slice", "users"),
    *("values", "id", "dataset", "vocabularies", "user_key", "profile_key", "items_", "age_1"),
    *("Const", "NoOp", "StatefulPartitionedCall", "save", "init", "saver_filename", "nan", "x__y"),
    *("Self", "SELF", "History", "EXCLUDE", "Items", "user_id", "a" * 100, "a" * 101, "_a", "A"),
    *("self", "history", "history_time", "target", "segment", "exclude", "examples", "items"),
}
REFUSED = {
    *keyword.kwlist,
    *("self", "history", "history_time", "target", "segment", "exclude", "examples", "items"),
    *("Self", "SELF", "History", "EXCLUDE", "Items", "user_id", "a" * 101, "_a"),
}
# Names that differ in case only are refused by the schema.
LOWER = {name.lower(): name for name in sorted(NASTY_NAMES - REFUSED)}


def accepts(name):
    try:
        return bool(Feature(name))
    except InputError:
        return False


@pytest.mark.slow
def test_every_name_that_a_feature_accepts_can_be_exported_and_called(records, config, tmp_path):
    assert {name for name in NASTY_NAMES if not accepts(name)} == REFUSED
    kinds = ("categorical", "multi", "numeric")
    features = [Feature(name, kinds[i % 3]) for i, name in enumerate(LOWER.values())]
    strings = {"categorical": "red", "multi": ["red", "blue"], "numeric": 1.5}
    values = {feature.name: strings[feature.kind] for feature in features}
    users = [
        {**{field: user[field] for field in ("user_id", "history", "target")}, **values}
        for user in records["train"][:4]
    ]
    data = prepare_tables({"train": users}, features, tmp_path / "data", max_history=8)
    model = CMCLRec(data.schema, config)
    model(next(iter(data.batches("train", 2))))
    with SavedModelSession(export(model, data, tmp_path / "model" / "1")) as session:
        assert set(session.signatures["cold"].inputs) == {*LOWER.values(), "exclude"}
        requests = warmup.requests(data, 2)
        answers = {name: session.run(name, inputs) for name, inputs in requests.items()}
        lists = answers["serving_default"]["item_ids"][1], answers["cold"]["item_ids"][1]
        assert lists[0].tolist() == lists[1].tolist()  # a cold user, in a record and in inputs


ODD_ITEMS = [
    " ",
    " i 1",
    "Grün",
    "\x00",
    "a\x00b",
    "\t",
    "\x0b",
    "\u2028",
    "\udcff",
    "\U0001f600",
    '"',
    ",",
]


@pytest.mark.slow
def test_ids_of_tables_are_those_of_the_served_graph_for_odd_tokens(records, config, tmp_path):
    users = [
        {**user, "history": ODD_ITEMS, "target": [ODD_ITEMS[0]], "zip": item, "tags": [item, 1.0]}
        for user, item in zip(records["train"], ODD_ITEMS, strict=False)
    ]
    data = prepare_tables({"train": users}, FEATURES, tmp_path / "data", max_history=16)
    model = CMCLRec(data.schema, config)
    model(next(iter(data.with_history(8).batches("train", 8))))
    ids = next(iter(data.batches("train", 8, shuffle=False)))["history"].numpy()[0]
    assert sorted(ids[ids > 0]) == list(range(2, 2 + len(ODD_ITEMS)))
    folder = export(model, data, tmp_path / "model" / "1")
    lines = (folder / "assets" / "items").read_bytes().split(b"\n")[:-1]
    names = [vocabulary.encode(item) for item in ODD_ITEMS]
    np.testing.assert_array_equal(ids[ids > 0], [2 + lines.index(name) for name in names])
    with SavedModelSession(folder) as session:
        hidden = [names[:i] + names[i + 1 :] for i in range(len(names))]
        lists = session.run("warm", warm_inputs(hidden))["item_ids"]
        # All but one item is in the history, so that one is recommended, by its name.
        assert lists[:, 0].tolist() == names and not any(lists[:, 1:].ravel())


def test_seen_items_decides_whether_history_items_come_back(model, dataset, tmp_path):
    config = model.config.changed({"evaluate.seen_items": "keep"})
    history = [f"i{n}" for n in range(8)]
    with SavedModelSession(export(model, dataset, tmp_path / "1", config)) as session:
        no_history = set(session.run("warm", warm_inputs([[]]))["item_ids"][0])
        record = tf.train.Example()
        for item in history:
            record.features.feature["history"].bytes_list.value.append(item.encode())
        answers = [
            session.run("warm", warm_inputs([history], [["i1"]])),
            session.run("serving_default", {"examples": [record.SerializeToString()]}),
        ]
    seen = [{item.encode() for item in history} & set(a["item_ids"][0]) for a in answers]
    assert all(seen) and b"i1" not in seen[0] and len(no_history) == len(answers[0]["item_ids"][0])

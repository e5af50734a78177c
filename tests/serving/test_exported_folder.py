"""Tests the files of an export, and that an export is complete or absent."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import CMCLRec
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
    assert assets == ["items", "tags", "team", "zip"]


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


def test_an_export_never_overwrites_and_leaves_nothing_half_written(
    model, dataset, exported, tmp_path, monkeypatch
):
    with pytest.raises(InputError, match="new folder"):
        export(model, dataset, exported)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(warmup, "write", fail)
    with pytest.raises(OSError, match="disk full"):
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

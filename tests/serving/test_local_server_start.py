"""Tests the errors of a local server that cannot start: each is one line with the fix."""

import socket

import pytest

from cmclrec_tf.errors import InputError
from serving.contract import WARMUP_FILE
from serving.server.local_server import LocalServer


def does_not_start(path, *texts, **options):
    with pytest.raises(InputError) as caught:
        LocalServer(path, **{"port": 0, **options})
    message = str(caught.value)
    assert "\n" not in message
    for text in texts:
        assert text in message


def test_no_base_path(tmp_path):
    does_not_start(tmp_path / "gone", "gone", "must be a folder")


def test_no_version(tmp_path, saved_model):
    (tmp_path / "latest").mkdir()
    (tmp_path / "7").write_text("a file is no version")
    does_not_start(tmp_path, "must hold a version")
    does_not_start(saved_model, "must hold a version", "folder above the versions")


def test_version_without_a_model(copied_model):
    (copied_model / "1" / "saved_model.pb").unlink()
    does_not_start(copied_model, "/1", "must hold saved_model.pb")


def test_broken_models(copied_model):
    path = copied_model / "1" / "saved_model.pb"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    does_not_start(copied_model, "must be able to load")
    path.write_bytes(b"")
    does_not_start(copied_model, "must be able to load")
    path.write_bytes(whole)
    for asset in (copied_model / "1" / "assets").iterdir():
        asset.unlink()
    does_not_start(copied_model, "must be able to load")


def test_warmup_requests_are_run(copied_model):
    """A SavedModel without its variables loads but cannot answer."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = copied_model / "1" / WARMUP_FILE
    path.parent.mkdir()
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "warm"
    for name in ("history", "exclude"):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([["a"]]))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    LocalServer(copied_model, port=0).stop()
    for file in (copied_model / "1" / "variables").iterdir():
        file.unlink()
    does_not_start(copied_model, "must answer its warmup requests")
    path.write_bytes(b"not records" * 10)
    does_not_start(copied_model, "must answer its warmup requests")


def test_port_in_use(server, base_path, saved_model):
    does_not_start(base_path, f"port {server.port}", "in use", "--port", port=server.port)
    does_not_start(base_path, "in use", port=server.port, host="localhost")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        does_not_start(base_path, f"port {port}", "in use", port=port)


def test_unavailable_addresses(base_path):
    does_not_start(base_path, "203.0.113.1", "listen there", host="203.0.113.1")
    does_not_start(base_path, "host 'no such host'", host="no such host")
    does_not_start(base_path, "port 65536", port=65536)


def test_loopback_by_default(server):
    assert server.host == "127.0.0.1"


def test_stopped_server_frees_its_port(base_path):
    with LocalServer(base_path, model_name="again", port=0) as first:
        port = first.port
        with pytest.raises(InputError):
            LocalServer(base_path, port=port)
    first.stop()
    with LocalServer(base_path, port=port) as second:
        assert second.port == port

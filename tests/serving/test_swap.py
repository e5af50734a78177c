"""Tests that a running server loads, retires, refuses and labels versions."""

import contextlib
import logging
import shutil
import threading

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cmclrec_tf.errors import InputError
from serving import tensor_protos
from serving.c_api.tensors import as_array
from serving.client import Client, ServingError
from serving.server.local_server import LocalServer
from tests.serving.eventually import eventually

POLL = 0.05


@contextlib.contextmanager
def serving(*arguments, **options):
    options = {"port": 0, "file_system_poll_wait_seconds": POLL, **options}
    with LocalServer(*arguments, **options) as server:
        target = f"{server.host}:{server.port}"
        with Client(target, timeout=30.0) as client, grpc.insecure_channel(target) as channel:
            server.client = client
            server.predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            yield server


def first(server, **spec):
    """Returns (version that answered, best item) for a user without data."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "cmclrec"
    request.model_spec.signature_name = "warm"
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for name in ("history", "exclude"):
        tensor_protos.encode(as_array([[""]], 7), request.inputs[name])
    answer = server.predict(request, timeout=30)
    best = tensor_protos.decode(answer.outputs["item_ids"])[0, 0]
    return answer.model_spec.version.value, best.decode()


def config_file(folder, base, more=""):
    path = folder / "models.config"
    text = f'config {{ name: "cmclrec" base_path: "{base}" model_platform: "tensorflow" {more} }}'
    aside = folder / "aside.config"
    aside.write_text(f"model_config_list {{ {text} }}")
    aside.rename(path)
    return path


def test_new_version_is_swapped_in(push, tmp_path):
    base = tmp_path / "cmclrec"
    push(base, 1)
    with serving(base) as server:
        assert first(server) == (1, "a")
        push(base, 2, other=True)
        eventually(lambda: first(server) == (2, "e"))
        eventually(lambda: server.client.status() == {2: "AVAILABLE", 1: "END"})
        with pytest.raises(grpc.RpcError) as caught:
            first(server, version=1)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert server.version == 2


def test_rollback(push, tmp_path):
    """If the newest version is moved aside, the one before it is served again."""
    base = tmp_path / "cmclrec"
    push(base, 1)
    push(base, 2, other=True)
    with serving(base) as server:
        assert first(server) == (2, "e")
        (base / "2").rename(base / "2.rolled-back")
        eventually(lambda: first(server) == (1, "a"))
        eventually(lambda: server.client.status() == {1: "AVAILABLE"})


def no_variables(folder):
    for file in (folder / "variables").iterdir():
        file.unlink()


def truncated(folder):
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:1000])


def unfinished(folder):
    (folder / "saved_model.pb").unlink()


@pytest.mark.parametrize("damage", [no_variables, truncated, unfinished])
def test_damaged_version_leaves_the_old_one(push, tmp_path, saved_model, damage, caplog):
    caplog.set_level(logging.ERROR)
    base = tmp_path / "cmclrec"
    push(base, 1)
    with serving(base) as server:
        folder = push(base, 2, other=True, damage=damage)
        if damage is not unfinished:
            eventually(lambda: "2" in {str(v) for v in server.client.status()})
            eventually(lambda: server.client.status() == {2: "END", 1: "AVAILABLE"})
            refusals = lambda: [r.getMessage() for r in caplog.records].count("version refused")
            eventually(refusals)
            # It is logged once, not at every check.
            threading.Event().wait(4 * POLL)
            assert refusals() == 1
        assert first(server) == (1, "a")
        # Once it is fixed it is loaded under the same number.
        shutil.rmtree(folder)
        push(base, 2, other=True)
        eventually(lambda: first(server) == (2, "e"))


def test_server_starts_with_an_older_version_if_the_newest_is_damaged(push, tmp_path):
    base = tmp_path / "cmclrec"
    push(base, 1)
    push(base, 2, other=True, damage=truncated)
    with serving(base) as server:
        assert first(server) == (1, "a")


def test_added_model_falls_back_past_versions_that_failed_before(push, tmp_path):
    good, other = tmp_path / "cmclrec", tmp_path / "other"
    push(good, 1)
    for version in (2, 3):
        push(other, version, damage=truncated)
    path = config_file(tmp_path, good)
    with serving(model_config_file=path) as server:
        more = f'}} config {{ name: "other" base_path: "{other}" model_platform: "tensorflow"'
        config_file(tmp_path, good, more)
        with Client(f"{server.host}:{server.port}", "other", timeout=30.0) as client:

            def states():
                try:
                    return client.status()
                except ServingError:  # the configuration has not been read again yet
                    return {}

            eventually(lambda: states() == {3: "END", 2: "END"})
            push(other, 1)
            eventually(lambda: states().get(1) == "AVAILABLE")


def test_version_without_its_folder_stays_loaded(push, tmp_path):
    base = tmp_path / "cmclrec"
    push(base, 1)
    with serving(base) as server:
        shutil.rmtree(base)
        stop = threading.Event()
        stop.wait(4 * POLL)
        assert first(server) == (1, "a")
        push(base, 5, other=True)
        eventually(lambda: first(server) == (5, "e"))


def test_policies_and_labels(push, tmp_path):
    base = tmp_path / "cmclrec"
    for version in (1, 2, 3):
        push(base, version, other=version == 3)
    labels = 'version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 3 }'
    path = config_file(
        tmp_path, base, f"model_version_policy {{ latest {{ num_versions: 2 }} }} {labels}"
    )
    with serving(model_config_file=str(path)) as server:
        assert server.client.status() == {3: "AVAILABLE", 2: "AVAILABLE"}
        assert first(server) == (3, "e")
        assert first(server, label="stable") == (2, "a")
        assert first(server, label="canary") == (3, "e")
        assert first(server, version=2) == (2, "a")
        for spec in ({"label": "gone"}, {"label": "Stable"}):
            with pytest.raises(grpc.RpcError) as caught:
                first(server, **spec)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "Unrecognized servable version label" in caught.value.details()
        # The file is checked again, too.
        config_file(
            tmp_path,
            base,
            "model_version_policy { specific { versions: 1 } } "
            'version_labels { key: "stable" value: 1 }',
        )
        eventually(lambda: 1 in server.client.status())
        eventually(lambda: first(server, label="stable") == (1, "a") and first(server) == (1, "a"))
        # A file that cannot be read changes nothing.
        path.write_text("model_config_list { config { nonsense: 1 } }")
        threading.Event().wait(4 * POLL)
        assert first(server, label="stable") == (1, "a")


def test_several_models(push, tmp_path):
    push(tmp_path / "cmclrec", 1)
    push(tmp_path / "second", 7, other=True)
    path = tmp_path / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" }}'
        for name in ("cmclrec", "second")
    )
    path.write_text(f"model_config_list {{ {models} }}")
    with serving(model_config_file=str(path)) as server:
        assert first(server) == (1, "a")
        with Client(f"{server.host}:{server.port}", model_name="second", timeout=30.0) as second:
            assert second.status() == {7: "AVAILABLE"}
            assert second.warm([[]])[0].item_ids[0] == "e"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name a model"),
        ("nonsense", "ModelServerConfig in text format"),
        ('model_config_list { config { name: "a" } }', "base_path"),
        (
            'model_config_list { config { name: "a" base_path: "BASE" '
            "model_version_policy { specific { } } } }",
            "must name a version",
        ),
        (
            'model_config_list { config { name: "a" base_path: "BASE" '
            "model_version_policy { specific { versions: 9 } } } }",
            "version policy asks for",
        ),
    ],
)
def test_invalid_configuration(push, tmp_path, text, message):
    push(tmp_path / "cmclrec", 1)
    path = tmp_path / "models.config"
    path.write_text(text.replace("BASE", str(tmp_path / "cmclrec")))
    with pytest.raises(InputError) as caught:
        LocalServer(model_config_file=str(path), port=0)
    assert message in str(caught.value)


def test_swaps_under_load(push, tmp_path):
    """No request fails, and every answer fits the version that gave it."""
    base = tmp_path / "cmclrec"
    push(base, 1)
    wrong, answered, done = [], [], threading.Event()

    def ask(server):
        while not done.is_set():
            try:
                version, best = first(server)
            except grpc.RpcError as error:
                wrong.append(error.details())
            else:
                answered.append(version)
                if best != "ea"[version % 2]:
                    wrong.append((version, best))

    with serving(base) as server:
        threads = [threading.Thread(target=ask, args=[server]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for version in range(1, 7):
            if version > 1:
                push(base, version, other=version % 2 == 0)
            eventually(lambda version=version: version in answered or wrong)
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert {1, 6} <= set(answered)

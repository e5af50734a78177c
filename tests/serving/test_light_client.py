"""The client works without TensorFlow: its messages, its imports, and its installation."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from serving import tensor_protos
from serving.client import protos

ROOT = pathlib.Path(__file__).parents[2]
# Nothing of the table's field types beyond these: what TensorFlow has as enum or scalar.
PARTS = ("number", "type", "label")


def run(code, *arguments, **environment):
    """Runs code in a new process and returns its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_messages_have_tensorflows_names_numbers_and_types():
    from google.protobuf import descriptor_pool
    from tensorflow_serving.apis import (  # noqa: F401  they add themselves to the pool
        model_service_pb2,
        prediction_service_pb2,
    )

    pool = descriptor_pool.Default()
    for name, fields in protos._MESSAGES.items():
        ours, original = (p.FindMessageTypeByName(name) for p in (protos.POOL, pool))
        assert ours.full_name == original.full_name and set(fields) == set(ours.fields_by_name)
        for field in fields:
            a, b = (descriptor.fields_by_name[field] for descriptor in (ours, original))
            for part in PARTS:
                assert getattr(a, part) == getattr(b, part), (name, field, part)
            for part in ("message_type", "enum_type", "containing_oneof"):
                names = [getattr(x, part) and getattr(x, part).name for x in (a, b)]
                assert names[0] == names[1], (name, field, part)
    for name, values in protos._ENUMS.items():
        original = pool.FindEnumTypeByName(name).values_by_name
        assert values == {value: original[value].number for value in values}
    for method, (service, response) in protos.METHODS.items():
        original = pool.FindServiceByName(service).methods_by_name[method]
        assert original.output_type.full_name == response.DESCRIPTOR.full_name


def test_bytes_are_tensorflows():
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

    ours, theirs = protos.PredictRequest(), predict_pb2.PredictRequest()
    for request in (ours, theirs):
        request.model_spec.name = "m"
        request.model_spec.version.value = 2**62
        request.model_spec.signature_name = "warm"
        for dtype in ("float32", "float64", "int32", "int64", "bool"):
            tensor_protos.encode(np.ones((2, 2), dtype), request.inputs[dtype])
        tensor_protos.encode(np.array([b"\xff", b""], object), request.inputs["string"])
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["x"].coo_sparse.values_tensor_name = "a field that the client does not know"
    signature.inputs["y"].tensor_shape.dim.add(size=-1)
    definitions = get_model_metadata_pb2.SignatureDefMap(signature_def={"cold": signature})
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(definitions)
    from serving.client.messages import signatures

    read = signatures(protos.GetModelMetadataResponse.FromString(response.SerializeToString()))
    assert read["cold"].inputs["y"].tensor_shape.dim[0].size == -1
    assert read["cold"].SerializeToString(deterministic=True) == signature.SerializeToString(
        deterministic=True
    )


CALL = """
import asyncio, json, sys, time
def ask(target):
    from serving.client import AsyncClient, Client
    users = [{"history": ["a", "b"]}, {"gender": "d"}, {"history": ["d"], "age": 1}]
    with Client(target, timeout=30.0) as client:
        lists = [answer.item_ids for answer in client.recommend_many(users)]
        assert client.status() == {12: "AVAILABLE"} and "cold" in client.metadata()
        assert client.features()["genres"] == "multi"
        assert client.simulated_history({"gender": "d"}).item_ids[1] == ("d", "a")
    async def main():
        async with AsyncClient(target, timeout=30.0) as client:
            return [answer.item_ids for answer in await client.recommend_many(users)]
    assert asyncio.run(main()) == lists
    return lists
"""
LISTS = [["c", "d", "e"], ["d", "a", "b"], ["e", "a", "b"]]


def test_import_is_fast_and_brings_no_tensorflow(target):
    """A client answers in a process without TensorFlow; a quarter of the bound is typical."""
    code = f"""{CALL}
import serving.client, serving.client.sync, serving.client.asynchronous
seconds = time.process_time()
lists = ask(sys.argv[1])
heavy = sorted({{"tensorflow", "tensorflow_serving", "keras", "pandas"}} & set(sys.modules))
print(json.dumps([seconds, heavy, lists]))
"""
    seconds, heavy, lists = json.loads(run(code, target))
    assert seconds < 2 and heavy == [] and lists == LISTS


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_tensorflow_in_the_same_process(target, is_first):
    """Its modules hold the same messages, and may be imported before the client or after it."""
    tensorflow = """
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, get_model_metadata_pb2, prediction_service_pb2_grpc
import grpc
def raw(target):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "cmclrec", "warm"
    for name, ids in (("history", [["a", "b"]]), ("exclude", [[""]])):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(ids))
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return tf.make_ndarray(stub.Predict(request, timeout=30).outputs["item_ids"]).tolist()
"""
    ask = "assert [list(items) for items in ask(sys.argv[1])] == " + repr(LISTS)
    order = [tensorflow, ask] if is_first else [ask, tensorflow, ask]
    code = "\n".join([CALL, *order, "print(raw(sys.argv[1]))"])
    assert run(code, target, TF_CPP_MIN_LOG_LEVEL="3").strip() == "[[b'c', b'd', b'e']]"


@pytest.fixture(scope="module")
def client_environment(tmp_path_factory):
    """The `bin` folder of a new environment with the extra `client` of this package."""
    folder = tmp_path_factory.mktemp("install")
    listing = subprocess.run(
        [
            "git",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "cmclrec_tf",
            "serving",
            "pipeline",
            "experiments",
            "*.toml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in [*listing.stdout.splitlines(), "setup.py", "README.md"]:
        if not (ROOT / name).is_file():
            continue  # removed, and not committed yet
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    uv = ROOT / ".uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("no uv, which `make` installs")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, f"{folder / 'source'}[client]"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the packages cannot be had: {done.stderr[-300:]}")
    return folder / "venv" / "bin"


def shell(folder, *words):
    """Runs a command of the new environment, away from the repository."""
    return subprocess.run(
        [folder / words[0], *words[1:]],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_extra_client_installs_without_tensorflow(client_environment, target):
    installed = {path.name for path in client_environment.parent.glob("lib/*/site-packages/*")}
    assert "grpc" in installed and not {"tensorflow", "keras"} & installed
    ask = f"{CALL}\nprint(json.dumps(ask(sys.argv[1])))"
    done = shell(client_environment, "python", "-c", ask, target)
    assert json.loads(done.stdout or "null") == LISTS, done.stderr
    done = shell(
        *(client_environment, "cmclrec", "recommend", "warm", "--item", "a", "--target", target)
    )
    assert done.stdout.split()[:2] == ["1", "b"] and not done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("python", "-c", "import cmclrec_tf"), "library"),
        (("python", "-c", "import cmclrec_tf.schema as s, cmclrec_tf as cm; cm.train"), "library"),
        (("cmclrec", "train", "."), "library"),
        (("cmclrec", "loadtest"), "serving"),
        (("cmclrec", "prepare", "movielens-100k"), "pipeline"),
    ],
)
def test_what_needs_another_extra_names_it(client_environment, words, extra):
    done = shell(client_environment, *words)
    assert done.returncode and not done.stdout
    assert f'pip install "cmclrec-tf[{extra}]"' in done.stderr.splitlines()[-1]
    assert words[0] == "python" or "Traceback" not in done.stderr


@pytest.mark.slow
def test_help_and_presets_need_no_extra(client_environment):
    done = shell(client_environment, "cmclrec", "--help")
    assert done.returncode == 0 and "recommend" in done.stdout and not done.stderr
    preset = "from cmclrec_tf.config import Config; print(Config.preset('default').model.backbone)"
    assert shell(client_environment, "python", "-c", preset).stdout == "sasrec\n"

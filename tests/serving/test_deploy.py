"""Tests the files for stock TensorFlow Serving: they fit their schemas and each other.

The local server reads two of the configuration files, so a test starts it with them.
"""

import copy
import importlib.resources
import inspect
import json
import pathlib
import re

import jsonschema
import kubernetes_validate
import pytest
import yaml

from serving import contract
from serving.client import ROWS, sync
from serving.commands import serve
from serving.server import model_config, text_protos
from serving.server.local_server import LocalServer
from serving.server.server_options import METRICS

FOLDER = pathlib.Path(contract.__file__).parent
MANIFESTS = sorted((FOLDER / "k8s").glob("*.yaml"))
KUBERNETES = "1.30"
# TensorFlow Serving's message, which no Python package contains.
BATCHING_PARAMETERS = {
    "Int64Value": {"value": text_protos.NUMBER},
    "StringValue": {"value": text_protos.TEXT},
    "BoolValue": {"value": text_protos.FLAG},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": (text_protos.NUMBER,),
        "pad_variable_length_inputs": text_protos.FLAG,
        "max_execution_batch_size": "Int64Value",
        "enable_large_batch_splitting": "BoolValue",
    },
}


def manifest(name):
    return yaml.safe_load((FOLDER / "k8s" / f"{name}.yaml").read_text())


def container():
    (only,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    return only


def compose():
    (only,) = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())["services"].values()
    return only


FLAGS = {"compose": lambda: compose()["command"], "kubernetes": lambda: container()["args"]}


@pytest.fixture(params=FLAGS)
def flags(request):
    words = FLAGS[request.param]()
    return dict(re.fullmatch(r"--([a-z_]+)=(.+)", word).groups() for word in words)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_fit_their_schema(path):
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_schema_is_strict():
    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_compose_file_fits_its_schema():
    vendored = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((vendored / "compose-spec.json").read_text())
    document = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())
    jsonschema.validate(document, schema)
    wrong = copy.deepcopy(document)
    wrong["services"]["tensorflow-serving"]["red_only"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_kustomization_names_every_file():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(FOLDER / name for name in kustomization["resources"]) == MANIFESTS
    (generated,) = kustomization["configMapGenerator"]
    assert sorted(FOLDER / name for name in generated["files"]) == sorted(
        (FOLDER / "config").iterdir()
    )
    volumes = manifest("deployment")["spec"]["template"]["spec"]["volumes"]
    assert generated["name"] in {v["configMap"]["name"] for v in volumes if "configMap" in v}


def test_image_is_not_older_than_the_tensorflow_of_the_exports():
    import tensorflow as tf

    assert compose()["image"] == container()["image"]
    image, tag = container()["image"].split(":")
    assert image == "tensorflow/serving"
    of_image, of_exports = (
        [int(part) for part in version.split(".")[:2]] for version in (tag, tf.__version__)
    )
    assert of_image >= of_exports
    assert compose()["entrypoint"] == container()["command"] == ["tensorflow_model_server"]


def test_compose_and_kubernetes_use_the_same_flags():
    assert FLAGS["compose"]() == FLAGS["kubernetes"]()


def test_same_model_and_port(flags):
    models = model_config.read(FOLDER / "config" / "models.config")
    assert list(models) == [contract.MODEL_NAME]
    assert models[contract.MODEL_NAME].base_path == f"/models/{contract.MODEL_NAME}"
    assert models[contract.MODEL_NAME].policy.latest == 2
    assert int(flags["port"]) == contract.PORT
    options = {option.name for option in serve.serve.params}
    shared = {"port", "rest_api_port", "model_config_file", "monitoring_config_file"}
    assert shared <= set(flags) & options
    defaults = inspect.signature(sync.Client).parameters
    assert defaults["model_name"].default == contract.MODEL_NAME
    assert defaults["target"].default == f"127.0.0.1:{flags['port']}"


def test_ports_are_bound_to_loopback(flags):
    expected = {f"127.0.0.1:{flags[name]}:{flags[name]}" for name in ("port", "rest_api_port")}
    assert set(compose()["ports"]) == expected


def test_mounts_of_the_compose_file(flags):
    models, config = compose()["volumes"]
    source, inside, mode = re.fullmatch(r"\$\{CMCLREC_MODELS:-(.+)\}:(.+):(.+)", models).groups()
    # A path in a compose file is relative to the file.
    local = (
        (FOLDER.parent / serve.MODEL_BASE_PATH).resolve().relative_to((FOLDER / source).resolve())
    )
    base = model_config.read(FOLDER / "config" / "models.config")[contract.MODEL_NAME].base_path
    assert base == f"{inside}/{local}" and mode == "ro"
    source, inside, mode = config.split(":")
    assert mode == "ro"
    for name in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        path = pathlib.PurePosixPath(flags[name])
        assert str(path.parent) == inside and (FOLDER / source / path.name).is_file()


def test_nothing_runs_as_root_or_writes():
    service, pod = compose(), manifest("deployment")["spec"]["template"]["spec"]
    assert service["read_only"] and service["user"] != "0" and service["cap_drop"] == ["ALL"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    inside = container()["securityContext"]
    assert inside["readOnlyRootFilesystem"] and inside["capabilities"] == {"drop": ["ALL"]}
    assert all(mount["readOnly"] for mount in container()["volumeMounts"])


def test_manifests_find_each_other(flags):
    deployment, service = manifest("deployment"), manifest("service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        manifest("disruption_budget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]
    assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {
        "name": deployment["metadata"]["name"]
    }
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": int(flags["port"]), "rest": int(flags["rest_api_port"])}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    assert {mount["name"] for mount in container()["volumeMounts"]} == {
        volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]
    }


def test_prometheus_annotations_match_the_metrics(flags):
    config = text_protos.monitoring_config(FOLDER / "config" / "monitoring.config")
    assert config.prometheus_config.enable and config.prometheus_config.path == METRICS
    notes = manifest("deployment")["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/path"] == METRICS
    assert notes["prometheus.io/port"] == flags["rest_api_port"]


def test_a_batch_is_as_large_as_a_request_of_the_client():
    types = text_protos.message_types(BATCHING_PARAMETERS)
    path = FOLDER / "config" / "batching_parameters.txt"
    batching = text_protos.read(path, types["BatchingParameters"]())
    assert batching.max_batch_size.value >= ROWS
    assert batching.pad_variable_length_inputs
    for field in ("batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        assert getattr(batching, field).value >= 1


def test_the_local_server_starts_with_these_files(base_path, tmp_path):
    """Once it has started it passes the probes of the deployment."""
    import urllib.request

    text = (FOLDER / "config" / "models.config").read_text()
    path = tmp_path / "models.config"
    path.write_text(text.replace("/models/cmclrec", str(base_path)))
    with LocalServer(
        model_config_file=str(path),
        port=0,
        rest_api_port=0,
        monitoring_config_file=str(FOLDER / "config" / "monitoring.config"),
    ) as server:
        url = f"http://{server.host}:{server.rest_port}"
        probes = [
            container()[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe")
        ]
        for probe in [*probes, METRICS]:
            with urllib.request.urlopen(url + probe) as answer:
                assert answer.status == 200

"""Stock TensorFlow Serving is started as the local server is, and as the client expects."""

import inspect
import pathlib
import re

import pytest
import yaml

from serving import cli, client, local_server

FOLDER = pathlib.Path(local_server.__file__).parent


@pytest.fixture(scope="module")
def service():
    (only,) = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())["services"].values()
    return only


@pytest.fixture(scope="module")
def flags(service):
    return dict(re.fullmatch(r"--([a-z_]+)=(.+)", word).groups() for word in service["command"])


def test_image_is_of_the_series_of_the_exports(service):
    import tensorflow as tf

    image, tag = service["image"].split(":")
    assert image == "tensorflow/serving"
    assert tag.split(".")[:2] == tf.__version__.split(".")[:2]
    assert service["entrypoint"] == ["tensorflow_model_server"]


def test_same_model_and_port(flags):
    assert flags["model_name"] == local_server.MODEL_NAME
    assert int(flags["port"]) == local_server.PORT
    options = {option.name: option.default for option in cli.serve.params}
    assert {"port", "model_name", "model_base_path"} <= set(flags) & set(options)
    defaults = inspect.signature(client.Client).parameters
    assert defaults["model_name"].default == flags["model_name"]
    assert defaults["target"].default == f"127.0.0.1:{flags['port']}"


def test_ports_are_bound_to_loopback(service, flags):
    wanted = {f"127.0.0.1:{flags[name]}:{flags[name]}" for name in ("port", "rest_api_port")}
    assert set(service["ports"]) == wanted


def test_models_are_mounted_where_they_are_looked_for(service, flags):
    source, inside, mode = re.fullmatch(
        r"\$\{CMCLREC_MODELS:-(.+)\}:(.+):(.+)", service["volumes"][0]
    ).groups()
    assert mode == "ro"
    # A path in a compose file is relative to the file.
    mounted = (FOLDER / source).resolve()
    local = (FOLDER.parent / cli.MODEL_BASE_PATH).resolve()
    assert flags["model_base_path"] == f"{inside}/{local.relative_to(mounted)}"


def test_config_files_are_mounted(service, flags):
    source, inside, mode = service["volumes"][1].split(":")
    assert mode == "ro"
    for flag in ("batching_parameters_file", "monitoring_config_file"):
        name = pathlib.PurePosixPath(flags[flag])
        assert str(name.parent) == inside
        assert (FOLDER / source / name.name).is_file()


def test_a_batch_holds_a_request_of_the_client(flags):
    name = pathlib.PurePosixPath(flags["batching_parameters_file"]).name
    text = (FOLDER / "config" / name).read_text()
    assert int(re.search(r"max_batch_size \{ value: (\d+) \}", text)[1]) >= client.ROWS
    assert "pad_variable_length_inputs: true" in text

"""The compiled job for Vertex AI and Kubeflow, and a run of its tasks."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from cmclrec_tf.errors import InputError
from tests.pipeline.compiled_run import CompiledRun
from tests.pipeline.ram_filesystem import ROOT, RamFileSystem

pytestmark = pytest.mark.pipeline

IMAGE = "images.example/cmclrec:1"
TASKS = (
    *("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "DataGate", "Transform"),
    *("Trainer", "Evaluator", "ServingValidator", "ModelCard", "Pusher"),
)


def _compile(setting, folder, *more, root=None, serving=None):
    """Invokes `cmclrec pipeline compile` and returns its result."""
    from pipeline.commands.cli import pipeline

    config = folder / "config.yaml"
    config.write_text(setting.config.to_yaml())
    options = {
        "--dataset": setting.spec,
        "--data-dir": setting.data_dir,
        "--config": config,
        "--image": IMAGE,
        "--out": folder / "job.json",
        "--pipeline-root": root or folder / "root",
        "--serving-dir": serving or folder / "serving",
    }
    words = [str(part) for pair in options.items() for part in pair]
    return CliRunner().invoke(pipeline, ["compile", *words, *more])


@pytest.fixture(scope="module")
def folder(setting, tmp_path_factory):
    """Folder of job.json, with `root` for its artifacts and `serving` for its models."""
    folder = tmp_path_factory.mktemp("compiled")
    done = _compile(setting, folder)
    assert done.exit_code == 0, done.output
    assert "job.json" in done.output
    return folder


@pytest.fixture(scope="module")
def job(folder):
    return json.loads((folder / "job.json").read_text())


@pytest.fixture(scope="module")
def run(job, folder):
    return CompiledRun(job, folder / "root", separate=("SchemaGen",)).run()


def _container(job, task):
    return job["pipelineSpec"]["deploymentSpec"]["executors"][f"{task}_executor"]["container"]


def test_every_task_has_the_image_and_the_trainer_its_machine(setting, tmp_path):
    done = _compile(setting, tmp_path, "--trainer-accelerator", "NVIDIA_TESLA_T4")
    assert done.exit_code == 0, done.output
    job = json.loads((tmp_path / "job.json").read_text())
    assert set(TASKS) <= set(job["pipelineSpec"]["root"]["dag"]["tasks"])
    for task in TASKS:
        assert _container(job, task)["image"] == IMAGE
        accelerator = _container(job, task).get("resources", {}).get("accelerator")
        expected = {"type": "NVIDIA_TESLA_T4", "count": "1"} if task == "Trainer" else None
        assert accelerator == expected
    assert _custom_config(job, "Trainer")["gpus"] == 1


@pytest.mark.parametrize("accelerator, gpus", [("NVIDIA_L4", 2), ("TPU_V3", 0), ("", 0)])
def test_gpus_are_those_of_nvidia(accelerator, gpus):
    from pipeline.runners.vertex import Machine

    assert Machine(accelerator=accelerator, accelerators=2 if accelerator else 0).gpus == gpus


def test_transform_waits_for_the_data_gate(job):
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "DataGate" in tasks["Transform"]["dependentTasks"]


def test_the_evaluator_compares_with_the_last_blessed_model(job):
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    source = tasks["Evaluator"]["inputs"]["artifacts"]["baseline_model"]["taskOutputArtifact"]
    assert source == {"producerTask": "Baseline-model-resolver", "outputArtifactKey": "model"}
    assert "Baseline-model-resolver" in tasks["Evaluator"]["dependentTasks"]


def test_the_evaluator_compares_with_popularity_and_the_trainer_is_silent(job):
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    inputs = tasks["Evaluator"]["inputs"]
    for key in ("transformed_examples", "transform_graph"):
        assert inputs["artifacts"][key]["taskOutputArtifact"]["producerTask"] == "Transform"
    text = inputs["parameters"]["eval_config"]["runtimeValue"]["constant"]
    assert text.count("AgainstFloor") == 2
    assert _custom_config(job, "Trainer")["shows_progress"] is False


@pytest.mark.slow
def test_the_compiled_tasks_lead_to_a_pushed_model(run, folder):
    from pipeline.storage.records import read
    from serving.c_api.session import SavedModelSession

    assert set(TASKS) <= set(run.order)
    assert run.order[-1] == "Pusher"
    (version,) = (folder / "serving").iterdir()
    examples = run.artifact("ExampleGen", "examples").uri
    records = np.array(list(read((folder / examples).glob("Split-test/*"))), object)
    with SavedModelSession(version) as session:
        answer = session.run("serving_default", {"examples": records})
    is_cold = np.asarray(answer["is_cold"]).astype(bool)
    assert is_cold.any() and not is_cold.all()
    assert np.asarray(answer["item_ids"])[:, 0].all()


@pytest.mark.slow
def test_the_model_of_the_tasks_is_blessed(run):
    blessing = run.artifact("Evaluator", "blessing")
    assert blessing.metadata["blessed"] == 1
    assert run.artifact("Pusher", "pushed_model").metadata["pushed"] == 1


def test_vertex_gets_the_compiled_job(folder):
    from google.auth.credentials import AnonymousCredentials

    from pipeline.runners import vertex

    job = vertex.new_job(folder / "job.json", "a-project", "us-central1", AnonymousCredentials())
    # `submit` sends this. The public fields of a PipelineJob exist only after it was created.
    request = job._gca_resource
    assert request.display_name == "cmclrec-clusters"
    assert request.runtime_config.gcs_output_directory == str(folder / "root")
    assert set(TASKS) <= set(request.pipeline_spec["root"]["dag"]["tasks"])


def test_cloud_services_are_in_the_job(setting, tmp_path):
    services = ["--project", "a-project", "--region", "europe-west4", "--dataflow"]
    services += ["--machine-type", "n1-standard-8", "--trainer-accelerator", "NVIDIA_TESLA_T4"]
    done = _compile(
        setting, tmp_path, *services, "--endpoint", "cold-start", "--serving-image", "serving:1"
    )
    assert done.exit_code == 0, done.output
    job = json.loads((tmp_path / "job.json").read_text())
    for task in ("ExampleGen", "StatisticsGen", "Transform", "Evaluator"):
        arguments = _container(job, task)["args"]
        assert {"--runner=DataflowRunner", f"--sdk_container_image={IMAGE}"} <= set(arguments)
        assert "--region=europe-west4" in arguments and "--direct_num_workers=1" not in arguments
    settings = {task: _custom_config(job, task) for task in ("Trainer", "Pusher")}
    (pool,) = settings["Trainer"]["ai_platform_training_args"]["worker_pool_specs"]
    assert pool["container_spec"] == {"image_uri": IMAGE}
    assert pool["machine_spec"]["machine_type"] == "n1-standard-8"
    assert pool["machine_spec"]["accelerator_type"] == "NVIDIA_TESLA_T4"
    assert "resources" not in _container(job, "Trainer")
    # The training job gets the same config as a Trainer here.
    assert settings["Trainer"]["config"] == json.loads(json.dumps(setting.config.to_dict()))
    assert settings["Pusher"]["ai_platform_serving_args"]["endpoint_name"] == "cold-start"
    for values in settings.values():
        assert values["ai_platform_vertex_region"] == "europe-west4"


def _custom_config(job, task):
    values = job["pipelineSpec"]["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return json.loads(values["custom_config"]["runtimeValue"]["constant"])


def test_folders_that_tasks_cannot_reach_are_refused(setting, tmp_path):
    done = _compile(setting, tmp_path, root="gs://bucket/root")
    with pytest.raises(InputError, match="--data-dir .* cannot read or write a folder of this"):
        raise done.exception
    assert not (tmp_path / "job.json").exists()


def test_remote_folders_and_files_are_compiled(setting, tmp_path):
    """The raw files are read from the remote folder; no path of this machine is in the job."""
    remote = dataclasses.replace(setting, data_dir=RamFileSystem.hold(setting.data_dir))
    done = _compile(remote, tmp_path, root=f"{ROOT}/root", serving=f"{ROOT}/serving")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "job.json").read_text()
    job = json.loads(text)
    assert job["runtimeConfig"]["gcsOutputDirectory"] == f"{ROOT}/root"
    assert f"{ROOT}/interactions.csv" in text and str(setting.data_dir) not in text
    missing = dataclasses.replace(setting, data_dir=f"{ROOT}/elsewhere")
    with pytest.raises(InputError, match=f"{ROOT}/elsewhere/interactions.csv: the dataset needs"):
        raise _compile(missing, tmp_path, root=f"{ROOT}/root", serving=f"{ROOT}/s").exception


def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path):
    from pipeline.runners import vertex

    path = tmp_path / "job.json"
    for text in ("", "[]", "{}", '{"pipelineSpec": {"nonsense": 1}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="ompile it"):
            vertex.read_job(path)


def test_services_need_a_project_and_an_endpoint_an_image():
    from pipeline.runners.cloud import Cloud

    for services in ({"dataflow": True}, {"machine_type": "n1-standard-8"}):
        with pytest.raises(InputError, match="Give --project"):
            Cloud(**services)
    with pytest.raises(InputError, match="an endpoint serves with a container image"):
        Cloud(project="a", endpoint="b")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpus": -1}, "cpus=-1: it must not be negative"),
        ({"accelerator": "NVIDIA_TESLA_T4"}, "needs a type and a number"),
        ({"accelerators": 1}, "needs a type and a number"),
    ],
)
def test_an_impossible_machine_is_refused(resources, message):
    from pipeline.runners.vertex import Machine

    with pytest.raises(InputError, match=message):
        Machine(**resources)

"""The pipeline as Vertex AI and Kubeflow are given it, executed task by task."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from cmclrec_tf.errors import InputError
from tests.pipeline.compiled import CompiledRun
from tests.pipeline.ram import ROOT, RamFileSystem

pytestmark = pytest.mark.pipeline

IMAGE = "images.example/cmclrec:1"
TASKS = (
    *("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "DataGate", "Transform"),
    *("Trainer", "Evaluator", "ServingValidator", "ModelCard", "Pusher"),
)


def _compile(setting, folder, *more, root=None, serving=None):
    """The result of `cmclrec pipeline compile` into a folder."""
    from pipeline.commands.cli import pipeline

    config = folder / "config.yaml"
    config.write_text(setting.config.to_yaml())
    given = {
        "--dataset": setting.spec,
        "--data-dir": setting.data_dir,
        "--config": config,
        "--image": IMAGE,
        "--out": folder / "job.json",
        "--pipeline-root": root or folder / "root",
        "--serving-dir": serving or folder / "serving",
    }
    words = [str(part) for pair in given.items() for part in pair]
    return CliRunner().invoke(pipeline, ["compile", *words, *more])


@pytest.fixture(scope="module")
def folder(setting, tmp_path_factory):
    """Holds job.json; its artifacts go to `root`, its models to `serving`."""
    folder = tmp_path_factory.mktemp("compiled")
    done = _compile(setting, folder, "--trainer-accelerator", "NVIDIA_TESLA_T4")
    assert done.exit_code == 0, done.output
    assert "job.json" in done.output
    return folder


@pytest.fixture(scope="module")
def job(folder):
    return json.loads((folder / "job.json").read_text())


@pytest.fixture(scope="module")
def run(job, folder):
    return CompiledRun(job, folder / "root", own_process=("SchemaGen",)).run()


def _container(job, task):
    return job["pipelineSpec"]["deploymentSpec"]["executors"][f"{task}_executor"]["container"]


def test_every_task_has_the_image_and_the_trainer_its_machine(job):
    assert set(TASKS) <= set(job["pipelineSpec"]["root"]["dag"]["tasks"])
    for task in TASKS:
        assert _container(job, task)["image"] == IMAGE
        accelerator = _container(job, task).get("resources", {}).get("accelerator")
        wanted = {"type": "NVIDIA_TESLA_T4", "count": "1"} if task == "Trainer" else None
        assert accelerator == wanted


def test_transform_waits_for_the_data_gate(job):
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "DataGate" in tasks["Transform"]["dependentTasks"]


def test_the_evaluator_is_given_the_last_blessed_model(job):
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    found = tasks["Evaluator"]["inputs"]["artifacts"]["baseline_model"]["taskOutputArtifact"]
    assert found == {"producerTask": "Baseline-model-resolver", "outputArtifactKey": "model"}
    assert "Baseline-model-resolver" in tasks["Evaluator"]["dependentTasks"]


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
def test_what_the_tasks_left_is_blessed(run):
    blessing = run.artifact("Evaluator", "blessing")
    assert blessing.metadata["blessed"] == 1
    assert run.artifact("Pusher", "pushed_model").metadata["pushed"] == 1


def test_the_job_is_what_vertex_is_asked_to_run(folder):
    from google.auth.credentials import AnonymousCredentials

    from pipeline.runners import vertex

    planned = vertex.new_job(
        folder / "job.json", "a-project", "us-central1", AnonymousCredentials()
    )
    # What its `submit` sends; its public fields are those of a job that has been created.
    asked = planned._gca_resource
    assert asked.display_name == "cmclrec-clusters"
    assert asked.runtime_config.gcs_output_directory == str(folder / "root")
    assert set(TASKS) <= set(asked.pipeline_spec["root"]["dag"]["tasks"])


def test_the_services_of_the_cloud_are_asked_for(setting, tmp_path):
    services = ["--project", "a-project", "--region", "europe-west4", "--dataflow"]
    services += ["--machine-type", "n1-standard-8", "--trainer-accelerator", "NVIDIA_TESLA_T4"]
    done = _compile(
        setting, tmp_path, *services, "--endpoint", "cold-start", "--serving-image", "serving:1"
    )
    assert done.exit_code == 0, done.output
    job = json.loads((tmp_path / "job.json").read_text())
    for task in ("ExampleGen", "StatisticsGen", "Transform", "Evaluator"):
        found = _container(job, task)["args"]
        assert {"--runner=DataflowRunner", f"--sdk_container_image={IMAGE}"} <= set(found)
        assert "--region=europe-west4" in found and "--direct_num_workers=1" not in found
    asked = {task: _custom_config(job, task) for task in ("Trainer", "Pusher")}
    (pool,) = asked["Trainer"]["ai_platform_training_args"]["worker_pool_specs"]
    assert pool["container_spec"] == {"image_uri": IMAGE}
    assert pool["machine_spec"]["machine_type"] == "n1-standard-8"
    assert pool["machine_spec"]["accelerator_type"] == "NVIDIA_TESLA_T4"
    assert "resources" not in _container(job, "Trainer")
    # What trains is told the same as here.
    assert asked["Trainer"]["config"] == json.loads(json.dumps(setting.config.to_dict()))
    assert asked["Pusher"]["ai_platform_serving_args"]["endpoint_name"] == "cold-start"
    for given in asked.values():
        assert given["ai_platform_vertex_region"] == "europe-west4"


def _custom_config(job, task):
    values = job["pipelineSpec"]["root"]["dag"]["tasks"][task]["inputs"]["parameters"]
    return json.loads(values["custom_config"]["runtimeValue"]["constant"])


def test_folders_that_tasks_cannot_reach_are_refused(setting, tmp_path):
    done = _compile(setting, tmp_path, root="gs://bucket/root")
    with pytest.raises(InputError, match="--data-dir .* cannot read or write a folder of this"):
        raise done.exception
    assert not (tmp_path / "job.json").exists()


def test_remote_folders_and_files_are_compiled(setting, tmp_path):
    """The raw files are looked at where they lie; nothing of this machine is in the job."""
    remote = dataclasses.replace(setting, data_dir=RamFileSystem.hold(setting.data_dir))
    done = _compile(remote, tmp_path, root=f"{ROOT}/root", serving=f"{ROOT}/serving")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "job.json").read_text()
    job = json.loads(text)
    assert job["runtimeConfig"]["gcsOutputDirectory"] == f"{ROOT}/root"
    assert f"{ROOT}/interactions.csv" in text and str(setting.data_dir) not in text
    lost = dataclasses.replace(setting, data_dir=f"{ROOT}/elsewhere")
    with pytest.raises(InputError, match=f"{ROOT}/elsewhere/interactions.csv: the dataset needs"):
        raise _compile(lost, tmp_path, root=f"{ROOT}/root", serving=f"{ROOT}/s").exception


def test_what_is_no_compiled_pipeline_is_refused(tmp_path):
    from pipeline.runners import vertex

    path = tmp_path / "job.json"
    for text in ("", "[]", "{}", '{"pipelineSpec": {"nonsense": 1}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="ompile it"):
            vertex.read_job(path)


def test_services_need_a_project_and_an_endpoint_an_image():
    from pipeline.runners.cloud import Cloud

    for given in ({"dataflow": True}, {"machine_type": "n1-standard-8"}):
        with pytest.raises(InputError, match="Give --project"):
            Cloud(**given)
    with pytest.raises(InputError, match="an endpoint serves with a container image"):
        Cloud(project="a", endpoint="b")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpus": -1}, "cpus=-1: it must not be negative"),
        ({"accelerator": "NVIDIA_TESLA_T4"}, "needs a type and a number"),
        ({"accelerators": 1}, "needs a type and a number"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(given, said):
    from pipeline.runners.vertex import Machine

    with pytest.raises(InputError, match=said):
        Machine(**given)

"""Compiles the pipeline for Kubeflow Pipelines and Vertex AI, and submits what was compiled."""

import dataclasses
import json
import pathlib
import re

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

# Not by `tfx.v1`, which leaves this runner out when an import of it fails.
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import make_folder

TRAINER = "Trainer"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,127}")
_Container = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a task's container is given; 0 and "" leave it to the service.

    Attributes:
        cpus: number of virtual CPUs.
        memory_gb: gigabytes of memory.
        accelerator: type of accelerator, as the service spells it (`NVIDIA_TESLA_T4`).
        accelerators: number of them.

    Raises:
        InputError: a negative number, or an accelerator without a number or the reverse.
    """

    cpus: float = 0
    memory_gb: float = 0
    accelerator: str = ""
    accelerators: int = 0

    def __post_init__(self):
        for field in ("cpus", "memory_gb", "accelerators"):
            if getattr(self, field) < 0:
                raise InputError(
                    f"{field}={getattr(self, field)}", "it must not be negative", "Correct it."
                )
        if bool(self.accelerator) != bool(self.accelerators):
            raise InputError(
                f"accelerator={self.accelerator!r}, accelerators={self.accelerators}",
                "an accelerator needs a type and a number",
                "Give both or neither.",
            )

    def resources(self):
        """The `ResourceSpec` of a task, None where nothing is asked for."""
        if self == Machine():
            return None
        spec = _Container.ResourceSpec(cpu_limit=self.cpus, memory_limit=self.memory_gb)
        if self.accelerator:
            spec.accelerator.type = self.accelerator
            spec.accelerator.count = self.accelerators
        return spec


def compile_pipeline(pipeline, image, out, trainer_machine=None):
    """Writes the pipeline as a job that Vertex AI Pipelines and Kubeflow Pipelines run.

    Args:
        pipeline: `tfx.orchestration.pipeline.Pipeline` without metadata of its own.
        image: container image that holds this package and TFX (see Dockerfile).
        out: path of the JSON file.
        trainer_machine: `Machine` of the Trainer's container.

    Returns:
        The job as a dict, as it was written.

    Raises:
        InputError: a pipeline name that the services refuse, or a place that cannot be written.
    """
    out = pathlib.Path(out)
    name = pipeline.pipeline_info.pipeline_name
    if not _NAME.fullmatch(name):
        raise InputError(
            f"pipeline name {name!r}",
            "Vertex AI takes lower-case letters, digits and '-', at most 128 of them",
            "Rename the dataset in its spec.",
        )
    make_folder(out.parent, "Give another file by --out.")
    resources = trainer_machine and trainer_machine.resources()
    for component in pipeline.components:
        if resources and component.id == TRAINER:
            component.with_platform_config(resources)
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(default_image=image, use_pipeline_spec_2_1=True),
        output_dir=str(out.parent),
        output_filename=out.name,
    )
    job = runner.run(pipeline)
    validated(job)
    return job


def validated(job):
    """The `PipelineSpec` of a job.

    Raises:
        InputError: it holds what the specification does not know.
    """
    try:
        return json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    except (KeyError, TypeError, json_format.ParseError) as error:
        raise InputError(
            "pipeline job",
            f"its pipelineSpec must follow the specification ({error})",
            "Compile it.",
        ) from error


def read_job(path):
    """A compiled job as a dict.

    Raises:
        InputError: no such file, or one that is no compiled pipeline.
    """
    try:
        job = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path, "it must be a pipeline that `cmclrec pipeline compile` wrote", "Compile it."
        ) from error
    validated(job)
    return job


def submit(path, project, region, service_account=None, credentials=None):
    """Starts a compiled pipeline on Vertex AI.

    Args:
        path: of the compiled job.
        project, region: of Google Cloud.
        service_account: that the tasks run as; the project's default when None.
        credentials: of `google.auth`; those of the environment when None.

    Returns:
        The `google.cloud.aiplatform.PipelineJob`, submitted.

    Raises:
        InputError: no compiled pipeline at `path`.
    """
    job = planned(path, project, region, credentials)
    job.submit(service_account=service_account)
    return job


def planned(path, project, region, credentials=None):
    """The `PipelineJob` that `submit` starts, not started; arguments as there."""
    from google.cloud import aiplatform

    name = read_job(path)["pipelineSpec"]["pipelineInfo"]["name"]
    return aiplatform.PipelineJob(
        display_name=name,
        template_path=str(path),
        project=project,
        location=region,
        credentials=credentials,
        enable_caching=True,
    )

"""Compiles a pipeline for Kubeflow Pipelines and Vertex AI, and submits the compiled job."""

import dataclasses
import json
import pathlib
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

# `tfx.v1` has this runner too, but hides the error when an import of it fails.
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.pipeline import Pipeline

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath, make_folder

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.aiplatform import PipelineJob

TRAINER = "Trainer"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,127}")
_ResourceSpec: TypeAlias = (
    pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """The resources of a task's container; 0 and "" leave them to the service.

    Attributes:
        cpus: number of virtual CPUs.
        memory_gb: memory in GB.
        accelerator: type of accelerator in the service's spelling, such as `NVIDIA_TESLA_T4`.
        accelerators: number of accelerators.

    Raises:
        InputError: a number is negative, or only one of `accelerator` and `accelerators` is given.
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

    @property
    def gpus(self) -> int:
        """The number of GPUs among the accelerators; the service names all of them NVIDIA_*."""
        return self.accelerators if self.accelerator.startswith("NVIDIA_") else 0

    def resources(self) -> _ResourceSpec | None:
        """Returns the `ResourceSpec` of a task, or None if the service decides everything."""
        if self == Machine():
            return None
        spec = _ResourceSpec(cpu_limit=self.cpus, memory_limit=self.memory_gb)
        if self.accelerator:
            spec.accelerator.type = self.accelerator
            spec.accelerator.count = self.accelerators
        return spec


def compile_pipeline(
    pipeline: Pipeline, image: str, out: AnyPath, trainer_machine: Machine | None = None
) -> dict[str, Any]:
    """Writes a pipeline as a job for Vertex AI Pipelines and Kubeflow Pipelines.

    Args:
        pipeline: a pipeline without metadata, which the service brings.
        image: container image with this package and TFX, see pipeline/Dockerfile.
        out: path of the JSON file.
        trainer_machine: resources of the Trainer's container.

    Returns:
        The content of the file.

    Raises:
        InputError: the services refuse the pipeline's name, or the file cannot be written.
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
    pipeline_spec(job)  # checks it
    return job


def pipeline_spec(job: dict[str, Any]) -> pipeline_spec_pb2.PipelineSpec:
    """Returns the `PipelineSpec` in a job.

    Raises:
        InputError: there is none, or it has fields that are not in the specification.
    """
    try:
        return json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    except (KeyError, TypeError, json_format.ParseError) as error:
        raise InputError(
            "pipeline job",
            f"its pipelineSpec must follow the specification ({error})",
            "Compile it.",
        ) from error


def read_job(path: AnyPath) -> dict[str, Any]:
    """Reads a compiled job.

    Raises:
        InputError: there is no such file, or it is not a compiled pipeline.
    """
    try:
        job = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path, "it must be a pipeline that `cmclrec pipeline compile` wrote", "Compile it."
        ) from error
    pipeline_spec(job)  # checks it
    return job


def submit(
    path: AnyPath,
    project: str,
    region: str,
    service_account: str | None = None,
    credentials: "Credentials | None" = None,
) -> "PipelineJob":
    """Starts a compiled job on Vertex AI.

    Args:
        path: path of the job.
        project: Google Cloud project.
        region: Google Cloud region.
        service_account: account that the tasks run as; None is the project's default.
        credentials: credentials to use; None takes those of the environment.

    Returns:
        The submitted job.

    Raises:
        InputError: `path` is not a compiled pipeline.
    """
    job = new_job(path, project, region, credentials)
    job.submit(service_account=service_account)
    return job


def new_job(
    path: AnyPath, project: str, region: str, credentials: "Credentials | None" = None
) -> "PipelineJob":
    """Returns the job that `submit` starts, before it is submitted; arguments as there."""
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

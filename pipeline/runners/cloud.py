"""Selects the Google Cloud services of a compiled pipeline: Dataflow, training jobs, endpoints."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from tfx.components import Trainer
from tfx.dsl.components.base.base_node import BaseNode
from tfx.extensions.google_cloud_ai_platform import constants
from tfx.extensions.google_cloud_ai_platform.pusher.component import Pusher as EndpointPusher
from tfx.extensions.google_cloud_ai_platform.trainer.component import Trainer as JobTrainer
from tfx.extensions.google_cloud_ai_platform.trainer.executor import TRAINING_ARGS_KEY
from tfx.proto import pusher_pb2

from cmclrec_tf.errors import InputError
from pipeline.components.pusher import Pusher
from pipeline.runners.vertex import Machine
from pipeline.trainer import GPUS


@dataclasses.dataclass(frozen=True)
class Cloud:
    """The services of Google Cloud that a pipeline uses.

    Attributes:
        project: Google Cloud project.
        region: Google Cloud region.
        image: container image of the tasks, of the training job and of Dataflow's workers.
        dataflow: whether Beam runs on Dataflow.
        machine_type: type of the machine for a training job on Vertex AI, such as
            `n1-standard-8`; empty trains in the Trainer's task.
        endpoint: name of the Vertex AI endpoint that blessed models are deployed to; empty pushes
            them to a folder.
        serving_image: container image that the endpoint serves with.

    Raises:
        InputError: a service is used without a project, or an endpoint without an image.
    """

    project: str = ""
    region: str = "us-central1"
    image: str = ""
    dataflow: bool = False
    machine_type: str = ""
    endpoint: str = ""
    serving_image: str = ""

    def __post_init__(self):
        uses_services = self.dataflow or self.machine_type or self.endpoint
        if uses_services and not self.project:
            raise InputError(
                "no project", "Dataflow, training jobs and endpoints need one", "Give --project."
            )
        if bool(self.endpoint) != bool(self.serving_image):
            raise InputError(
                f"endpoint={self.endpoint!r}, serving image={self.serving_image!r}",
                "an endpoint serves with a container image",
                "Give both --endpoint and --serving-image, or neither.",
            )

    def beam_args(self, temporary_folder: str) -> tuple[str, ...]:
        """Returns Beam's options for Dataflow as flags; none if Dataflow is not used.

        Args:
            temporary_folder: folder for Dataflow's temporary files.
        """
        if not self.dataflow:
            return ()
        return (
            "--runner=DataflowRunner",
            f"--project={self.project}",
            f"--region={self.region}",
            f"--temp_location={temporary_folder}",
            f"--sdk_container_image={self.image}",
            "--experiments=use_runner_v2",
        )

    def make_trainer(self, machine: Machine) -> Callable[..., BaseNode]:
        """Returns what makes the Trainer: TFX's own, or one that trains in a job.

        Args:
            machine: resources of the Trainer, which fails if it does not see its GPUs. A training
                job gets its accelerators.
        """
        return functools.partial(self._trainer, machine)

    def make_pusher(self) -> Callable[..., BaseNode]:
        """Returns what makes the Pusher: the one for folders, or one for the endpoint."""
        return self._endpoint_pusher if self.endpoint else Pusher

    def _trainer(
        self, machine: Machine, custom_config: Mapping[str, Any], **arguments: Any
    ) -> BaseNode:
        settings = {**custom_config, GPUS: machine.gpus}
        if not self.machine_type:
            return Trainer(**arguments, custom_config=settings)
        machine_spec: dict[str, Any] = {"machine_type": self.machine_type}
        if machine.accelerator:
            machine_spec |= {
                "accelerator_type": machine.accelerator,
                "accelerator_count": machine.accelerators,
            }
        pool = {
            "machine_spec": machine_spec,
            "replica_count": 1,
            "container_spec": {"image_uri": self.image},
        }
        job = {"project": self.project, "worker_pool_specs": [pool]}
        settings |= {**self._vertex(), TRAINING_ARGS_KEY: job}
        return JobTrainer(**arguments, custom_config=settings)

    def _endpoint_pusher(
        self, push_destination: pusher_pb2.PushDestination, **arguments: Any
    ) -> BaseNode:  # the endpoint is the destination
        serving_args = {"project_id": self.project, "endpoint_name": self.endpoint}
        custom_config = {
            **self._vertex(),
            constants.VERTEX_CONTAINER_IMAGE_URI_KEY: self.serving_image,
            constants.SERVING_ARGS_KEY: serving_args,
        }
        return EndpointPusher(**arguments, custom_config=custom_config)

    def _vertex(self) -> dict[str, Any]:
        return {constants.ENABLE_VERTEX_KEY: True, constants.VERTEX_REGION_KEY: self.region}

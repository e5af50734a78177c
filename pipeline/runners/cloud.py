"""What of Google Cloud a compiled pipeline uses: Dataflow, custom training jobs, endpoints."""

import dataclasses
import functools

from tfx.extensions.google_cloud_ai_platform import constants
from tfx.extensions.google_cloud_ai_platform.pusher.component import Pusher
from tfx.extensions.google_cloud_ai_platform.trainer.component import Trainer
from tfx.extensions.google_cloud_ai_platform.trainer.executor import TRAINING_ARGS_KEY

from cmclrec_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Cloud:
    """The project that the services are used in, and which of them are.

    Attributes:
        project, region: of Google Cloud.
        image: container image of the tasks, which trains too and is that of Dataflow's workers.
        dataflow: run Beam on Dataflow.
        machine_type: train in a job of Vertex AI's own on such a machine (`n1-standard-8`).
        endpoint: deploy blessed models to a Vertex AI endpoint of that name.
        serving_image: container image that the endpoint serves with.

    Raises:
        InputError: a service without a project, or an endpoint without an image.
    """

    project: str = ""
    region: str = "us-central1"
    image: str = ""
    dataflow: bool = False
    machine_type: str = ""
    endpoint: str = ""
    serving_image: str = ""

    def __post_init__(self):
        asked = self.dataflow or self.machine_type or self.endpoint
        if asked and not self.project:
            raise InputError(
                "no project", "Dataflow, training jobs and endpoints need one", "Give --project."
            )
        if bool(self.endpoint) != bool(self.serving_image):
            raise InputError(
                f"endpoint={self.endpoint!r}, serving image={self.serving_image!r}",
                "an endpoint serves with a container image",
                "Give both --endpoint and --serving-image, or neither.",
            )

    def beam_args(self, temp):
        """Options of Beam, as flags: of Dataflow, or none.

        Args:
            temp: folder for Dataflow's temporary files.
        """
        if not self.dataflow:
            return ()
        return (
            "--runner=DataflowRunner",
            f"--project={self.project}",
            f"--region={self.region}",
            f"--temp_location={temp}",
            f"--sdk_container_image={self.image}",
            "--experiments=use_runner_v2",
        )

    def components(self, machine):
        """`{argument of create_pipeline: component}` that stand in for TFX's own.

        Args:
            machine: `vertex.Machine`; its accelerators are the training job's too.
        """
        found = {}
        if self.machine_type:
            found["make_trainer"] = functools.partial(self._trainer, machine)
        if self.endpoint:
            found["make_pusher"] = self._pusher
        return found

    def _trainer(self, machine, custom_config, **given):
        spec = {"machine_type": self.machine_type}
        if machine.accelerator:
            spec |= {
                "accelerator_type": machine.accelerator,
                "accelerator_count": machine.accelerators,
            }
        pool = {
            "machine_spec": spec,
            "replica_count": 1,
            "container_spec": {"image_uri": self.image},
        }
        job = {"project": self.project, "worker_pool_specs": [pool]}
        return Trainer(
            **given, custom_config={**custom_config, **self._vertex(), TRAINING_ARGS_KEY: job}
        )

    def _pusher(self, push_destination, **given):
        arguments = {"project_id": self.project, "endpoint_name": self.endpoint}
        custom_config = {
            **self._vertex(),
            constants.VERTEX_CONTAINER_IMAGE_URI_KEY: self.serving_image,
            constants.SERVING_ARGS_KEY: arguments,
        }
        return Pusher(**given, custom_config=custom_config)

    def _vertex(self):
        return {constants.ENABLE_VERTEX_KEY: True, constants.VERTEX_REGION_KEY: self.region}

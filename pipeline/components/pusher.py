"""Extends TFX's Pusher so that a local version appears all at once."""

import json
from typing import Any

from tfx import types
from tfx.components import Pusher as FilePusher
from tfx.components.pusher import executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from pipeline.storage.folders import is_remote
from serving import versions

# Key of the custom config: push although the newest version is a model of another dataset.
FORCE = "force"


class Executor(executor.Executor):
    """Pushes a blessed model to a local folder by `versions.publish`, which renames it into place.

    A model of another dataset than that of the newest version is refused, unless the custom config
    of the component has FORCE. Object stores cannot rename folders. There TFX's own executor runs,
    which writes `saved_model.pb` last and does not look at the dataset.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed; for the arguments see TFX's executor."""
        base = _base_path(exec_properties)
        if is_remote(base):
            super().Do(input_dict, output_dict, exec_properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        source = self.GetModelPath(input_dict)
        settings = json.loads(
            exec_properties.get(standard_component_specs.CUSTOM_CONFIG_KEY) or "null"
        )
        # The copy in the pipeline's root comes first, so that every served model has one.
        io_utils.copy_dir(source, pushed.uri)
        version, folder = versions.publish(source, base, bool((settings or {}).get(FORCE)))
        self._MarkPushed(pushed, pushed_destination=str(folder), pushed_version=str(version))


class Pusher(FilePusher):
    """`tfx.components.Pusher` with the executor of this module."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


def _base_path(exec_properties):
    destination = pusher_pb2.PushDestination()
    key = standard_component_specs.PUSH_DESTINATION_KEY
    proto_utils.json_to_proto(exec_properties[key], destination)
    return destination.filesystem.base_directory

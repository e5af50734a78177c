"""TFX's Pusher, under which a version appears all at once."""

from tfx import types
from tfx.components import Pusher as FilePusher
from tfx.components.pusher import executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from pipeline.storage.folders import is_remote
from serving import versions


class Executor(executor.Executor):
    """Pushes a blessed model to a local folder by `versions.publish`.

    Object stores know no rename: there TFX's own way is kept, which writes `saved_model.pb` last.
    """

    def Do(self, input_dict, output_dict, exec_properties) -> None:  # noqa: N802
        """Pushes the model if it is blessed; see TFX's executor for what it is given."""
        base = _base_path(exec_properties)
        if is_remote(base):
            super().Do(input_dict, output_dict, exec_properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed: types.Artifact = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        source = self.GetModelPath(input_dict)
        # The copy under the pipeline's root comes first: what is served can always be found again.
        io_utils.copy_dir(source, pushed.uri)
        version, folder = versions.publish(source, base)
        self._MarkPushed(pushed, pushed_destination=str(folder), pushed_version=str(version))


class Pusher(FilePusher):
    """`tfx.components.Pusher` with this module's executor."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)


def _base_path(exec_properties):
    destination = pusher_pb2.PushDestination()
    key = standard_component_specs.PUSH_DESTINATION_KEY
    proto_utils.json_to_proto(exec_properties[key], destination)
    return destination.filesystem.base_directory

"""Finds the newest artifacts of each component, whether it ran or came from the cache."""

from ml_metadata.proto.metadata_store_pb2 import Execution
from tfx.types import Artifact, artifact_utils

from cmclrec_tf.errors import InputError
from pipeline.metadata import store
from pipeline.storage.folders import AnyPath

_SUCCESSFUL = (Execution.COMPLETE, Execution.CACHED)


class Outputs:
    """The artifacts of each component's newest successful execution at the time of construction.

    Args:
        metadata_path: sqlite file of ML Metadata.
        pipeline_name: the pipeline's name in it.

    Raises:
        InputError: the file does not exist. Methods raise it for a component that never succeeded.
    """

    def __init__(self, metadata_path: AnyPath, pipeline_name: str):
        self._store = store.connect(metadata_path)
        self._newest: dict[str, Execution] = {}
        for component, executions in store.executions(self._store, pipeline_name).items():
            for execution in executions:
                if execution.last_known_state in _SUCCESSFUL:
                    self._newest[component] = execution

    def artifact(self, component: str, key: str) -> Artifact:
        """Returns the artifact that a component wrote.

        Args:
            component: id of the component.
            key: name of the output.
        """
        execution = self._execution(component)
        for output, artifact_id in store.outputs(self._store, [execution.id]):
            if output == key:
                (artifact,) = self._store.get_artifacts_by_id([artifact_id])
                (kind,) = self._store.get_artifact_types_by_id([artifact.type_id])
                return artifact_utils.deserialize_artifact(kind, artifact)
        raise InputError(
            f"{component}.{key}", "the component has no such output", "Run the pipeline again."
        )

    def update(self, artifact: Artifact) -> None:
        """Writes the changed properties of an artifact to ML Metadata."""
        self._store.put_artifacts([artifact.mlmd_artifact])

    def was_cached(self, component: str) -> bool:
        """Whether the result of a component came from the cache."""
        return self._execution(component).last_known_state == Execution.CACHED

    def _execution(self, component):
        if component not in self._newest:
            raise InputError(
                component, "the component never succeeded in this pipeline", "Run the pipeline."
            )
        return self._newest[component]

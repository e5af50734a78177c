"""What a pipeline's components last left behind, whether they ran or were answered from cache."""

import os

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.types import artifact_utils

from cmclrec_tf.errors import InputError

_DONE = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class Outputs:
    """Artifacts of each component's newest successful execution, as of when this is built.

    Args:
        metadata_path: sqlite file of ML Metadata.
        pipeline_name: the pipeline's name in it.

    Raises:
        InputError: the file does not exist, or a component that is asked for never succeeded.
    """

    def __init__(self, metadata_path, pipeline_name):
        if not os.path.isfile(metadata_path):
            raise InputError(metadata_path, "the metadata must exist", "Run the pipeline first.")
        self._connection = metadata.sqlite_metadata_connection_config(str(metadata_path))
        self._newest = {}
        prefix = f"{pipeline_name}."
        with metadata.Metadata(self._connection) as handle:
            for context in handle.store.get_contexts_by_type("node"):
                executions = handle.store.get_executions_by_context(context.id)
                done = [e for e in executions if e.last_known_state in _DONE]
                if context.name.startswith(prefix) and done:
                    self._newest[context.name[len(prefix) :]] = max(done, key=lambda e: e.id)

    def artifact(self, component, key):
        """The artifact that `component` (its id) put out as `key`."""
        execution = self._execution(component)
        with metadata.Metadata(self._connection) as handle:
            for event in handle.store.get_events_by_execution_ids([execution.id]):
                named = event.path.steps[0].key if event.path.steps else None
                if event.type == metadata_store_pb2.Event.OUTPUT and named == key:
                    (found,) = handle.store.get_artifacts_by_id([event.artifact_id])
                    (kind,) = handle.store.get_artifact_types_by_id([found.type_id])
                    return artifact_utils.deserialize_artifact(kind, found)
        raise InputError(
            f"{component}.{key}", "the component has no such output", "Run the pipeline again."
        )

    def update(self, artifact) -> None:
        """Writes an artifact's changed properties back."""
        with metadata.Metadata(self._connection) as handle:
            handle.store.put_artifacts([artifact.mlmd_artifact])

    def was_cached(self, component):
        """Whether the component (its id) was answered from cache."""
        execution = self._execution(component)
        return execution.last_known_state == metadata_store_pb2.Execution.CACHED

    def _execution(self, component):
        if component not in self._newest:
            raise InputError(
                component, "the component never succeeded in this pipeline", "Run the pipeline."
            )
        return self._newest[component]

"""Opens ML Metadata and walks between the executions of a pipeline and their artifacts."""

import os
from collections.abc import Collection

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from ml_metadata.proto.metadata_store_pb2 import ConnectionConfig, Event, Execution

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath

_INPUTS = (Event.INPUT, Event.DECLARED_INPUT)
_OUTPUTS = (Event.OUTPUT, Event.DECLARED_OUTPUT)
_Sqlite = metadata_store_pb2.SqliteMetadataSourceConfig


def connect(path: AnyPath, read_only: bool = False) -> MetadataStore:
    """Opens the sqlite file of ML Metadata.

    Raises:
        InputError: there is no such file.
    """
    if not os.path.isfile(path):
        raise InputError(path, "the metadata must exist", "Run the pipeline first.")
    config = ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = _Sqlite.READONLY if read_only else _Sqlite.READWRITE_OPENCREATE
    return MetadataStore(config)


def executions(
    store: MetadataStore, pipeline_name: str, component: str | None = None
) -> dict[str, list[Execution]]:
    """Returns `{component id: executions}` of a pipeline, the oldest execution first.

    Args:
        store: the store to read.
        pipeline_name: the pipeline's name in it.
        component: id of the only component to return; None returns all.
    """
    prefix = f"{pipeline_name}."
    groups = {}
    for context in store.get_contexts_by_type("node"):
        name = context.name.removeprefix(prefix)
        if context.name.startswith(prefix) and component in (None, name):
            groups[name] = sorted(store.get_executions_by_context(context.id), key=lambda e: e.id)
    return groups


def inputs(store: MetadataStore, execution_ids: Collection[int]) -> list[tuple[str, int]]:
    """Returns `(key, artifact id)` of everything that the executions read."""
    return _artifacts(store, execution_ids, _INPUTS)


def outputs(store: MetadataStore, execution_ids: Collection[int]) -> list[tuple[str, int]]:
    """Returns `(key, artifact id)` of everything that the executions wrote."""
    return _artifacts(store, execution_ids, _OUTPUTS)


def producers(store: MetadataStore, artifact_ids: Collection[int]) -> set[int]:
    """Returns the ids of the executions that wrote the artifacts.

    An execution that was answered from the cache counts, as it puts out what an earlier one wrote.
    """
    events = store.get_events_by_artifact_ids(artifact_ids) if artifact_ids else []
    return {event.execution_id for event in events if event.type in _OUTPUTS}


def _artifacts(store, execution_ids, types):
    events = store.get_events_by_execution_ids(execution_ids) if execution_ids else []
    return [
        (event.path.steps[0].key if event.path.steps else "", event.artifact_id)
        for event in events
        if event.type in types
    ]

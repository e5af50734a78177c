"""Whether what components left is still there as they left it.

ML Metadata knows an artifact once its component is done, so what a killed one left is never taken.
An artifact that loses files later, by a full disk or by hand, would be: TFX's cache looks at the
folder alone.
"""

import contextlib
import json
import os
import pathlib

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from cmclrec_tf.data import shards
from cmclrec_tf.errors import InputError

_FILES = "files"
_DAMAGED = ".damaged"


def seal(metadata_path, pipeline_name, node_id) -> None:
    """Notes the files of a component's artifacts, with their sizes, where that is not done yet."""
    with _artifacts(metadata_path, pipeline_name, node_id) as (store, artifacts):
        for artifact in artifacts:
            if _FILES not in artifact.custom_properties and os.path.isdir(artifact.uri):
                noted = json.dumps(_sizes(artifact.uri), sort_keys=True)
                artifact.custom_properties[_FILES].string_value = noted
                store.put_artifacts([artifact])


def set_aside(metadata_path, pipeline_name, node_id):
    """Renames the folders of a component's artifacts that are not as they were left.

    The component then runs again, since the cache finds no folder.

    Returns:
        The folders as they were named, which now end in `.damaged`.
    """
    found = []
    if os.path.isfile(metadata_path):
        with _artifacts(metadata_path, pipeline_name, node_id) as (_, artifacts):
            for artifact in artifacts:
                noted = artifact.custom_properties[_FILES].string_value
                there = noted and os.path.isdir(artifact.uri)
                if there and json.loads(noted) != _sizes(artifact.uri):
                    _rename(artifact.uri)
                    found.append(artifact.uri)
    return found


def damage(metadata_path, pipeline_name):
    """What is wrong with the records that components left; to be asked when one has failed.

    Returns:
        `InputError` that names the first damaged file and the place in it, or None. The artifact
        that holds it is set aside.
    """
    if not os.path.isfile(metadata_path):
        return None
    with _artifacts(metadata_path, pipeline_name) as (_, artifacts):
        for artifact in artifacts:
            for path in sorted(pathlib.Path(artifact.uri).glob("Split-*/*.gz")):
                try:
                    shards.count([path])
                except InputError as error:
                    _rename(artifact.uri)
                    return InputError(
                        error.value,
                        error.rule,
                        "Run the pipeline again: it is set aside, and will be made anew.",
                    )
    return None


@contextlib.contextmanager
def _artifacts(metadata_path, pipeline_name, node_id=None):
    """The store, and the output artifacts of one component, or of all."""
    config = metadata.sqlite_metadata_connection_config(str(metadata_path))
    with metadata.Metadata(config) as handle:
        store = handle.store
        names = [f"{pipeline_name}.{node_id}"] if node_id else None
        contexts = [
            context
            for context in store.get_contexts_by_type("node")
            if (context.name in names if names else context.name.startswith(f"{pipeline_name}."))
        ]
        executions = [
            execution.id
            for context in contexts
            for execution in store.get_executions_by_context(context.id)
        ]
        events = store.get_events_by_execution_ids(executions) if executions else []
        made = {e.artifact_id for e in events if e.type == metadata_store_pb2.Event.OUTPUT}
        yield store, store.get_artifacts_by_id(sorted(made)) if made else []


def _sizes(folder):
    """`{path below the folder: bytes}` of its files."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def _rename(folder):
    target = f"{folder}{_DAMAGED}"
    number = 1
    while os.path.exists(target):
        number += 1
        target = f"{folder}{_DAMAGED}-{number}"
    os.rename(folder, target)

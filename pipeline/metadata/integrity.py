"""Detects artifacts whose files changed after their component finished, and sets them aside.

TFX's cache checks only that an artifact's folder exists. If files in it were lost or damaged since,
by a full disk or by hand, the cache would use it all the same. What a killed component wrote is no
problem: ML Metadata lists an artifact only when its component is done.
"""

import json
import os
import pathlib

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto.metadata_store_pb2 import Artifact

from cmclrec_tf.data import shards
from cmclrec_tf.errors import InputError
from pipeline.metadata import store

_FILES = "files"
_DAMAGED = ".damaged"


def seal(metadata_path: str, pipeline_name: str, component: str) -> None:
    """Records the sizes of all files of a component's artifacts, if it has not been done yet."""
    connection = store.connect(metadata_path)
    for artifact in _artifacts(connection, pipeline_name, component):
        if _FILES not in artifact.custom_properties and os.path.isdir(artifact.uri):
            sizes = json.dumps(_sizes(artifact.uri), sort_keys=True)
            artifact.custom_properties[_FILES].string_value = sizes
            connection.put_artifacts([artifact])


def set_aside(metadata_path: str, pipeline_name: str, component: str) -> list[str]:
    """Renames the folders of a component's artifacts whose files changed since `seal`.

    The cache then finds no folder, and the component runs again.

    Returns:
        The folders before renaming. Each new name ends in `.damaged`.
    """
    if not os.path.isfile(metadata_path):
        return []
    changed = []
    for artifact in _artifacts(store.connect(metadata_path), pipeline_name, component):
        sizes = artifact.custom_properties[_FILES].string_value
        is_sealed = sizes and os.path.isdir(artifact.uri)
        if is_sealed and json.loads(sizes) != _sizes(artifact.uri):
            _rename(artifact.uri)
            changed.append(artifact.uri)
    return changed


def find_damage(metadata_path: str, pipeline_name: str) -> InputError | None:
    """Reads the record files of all artifacts, to explain why a component failed.

    The artifact with the first damaged file is set aside.

    Returns:
        The error that names this file and the place in it, or None when all files are whole.
    """
    if not os.path.isfile(metadata_path):
        return None
    for artifact in _artifacts(store.connect(metadata_path), pipeline_name):
        for path in sorted(pathlib.Path(artifact.uri).glob("Split-*/*.gz")):
            try:
                shards.count([path])
            except InputError as error:
                _rename(artifact.uri)
                return InputError(
                    error.value,
                    error.rule,
                    "Run the pipeline again: the damaged artifact is set aside and made again.",
                )
    return None


def _artifacts(
    connection: MetadataStore, pipeline_name: str, component: str | None = None
) -> list[Artifact]:
    """Returns the artifacts that one component wrote, or that all of them did."""
    executions = store.executions(connection, pipeline_name, component)
    ids = [execution.id for group in executions.values() for execution in group]
    artifact_ids = {artifact_id for _, artifact_id in store.outputs(connection, ids)}
    return connection.get_artifacts_by_id(sorted(artifact_ids)) if artifact_ids else []


def _sizes(folder: str) -> dict[str, int]:
    """Returns `{path below the folder: bytes}` of all files."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def _rename(folder: str) -> None:
    target = f"{folder}{_DAMAGED}"
    number = 1
    while os.path.exists(target):
        number += 1
        target = f"{folder}{_DAMAGED}-{number}"
    os.rename(folder, target)

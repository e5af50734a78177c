"""Closes executions whose process has ended: they are marked as canceled, and their files removed.

A process that is killed leaves its execution as running, and the files that it wrote so far.
Nothing reads them, as ML Metadata lists an artifact only when its component is done. But they take
space, and `cmclrec pipeline status` would speak of a run that is no more.
"""

import os
import pathlib
import shutil

from ml_metadata.proto.metadata_store_pb2 import Execution

from pipeline.metadata import store
from pipeline.storage.folders import AnyPath

_UNFINISHED = (Execution.NEW, Execution.RUNNING)


def close(metadata_path: AnyPath, pipeline_name: str, root: AnyPath) -> list[str]:
    """Closes the unfinished executions of a pipeline.

    The caller holds the lock of the pipeline, so that no other process runs it.

    Args:
        metadata_path: sqlite file of ML Metadata.
        pipeline_name: the pipeline's name in it.
        root: folder of the components' artifacts.

    Returns:
        The components whose executions were closed.
    """
    if not os.path.isfile(metadata_path):
        return []
    connection = store.connect(metadata_path)
    closed = []
    for component, executions in store.executions(connection, pipeline_name).items():
        for execution in executions:
            if execution.last_known_state in _UNFINISHED:
                _remove_files(pathlib.Path(root) / component, execution.id)
                execution.last_known_state = Execution.CANCELED
                connection.put_executions([execution])
                closed.append(component)
    return closed


def _remove_files(folder: pathlib.Path, execution_id: int) -> None:
    """Removes the files of an execution: `<output>/<id>` and `.system/<kind>/<id>`, as of TFX."""
    for pattern in (f"*/{execution_id}", f".system/*/{execution_id}"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)

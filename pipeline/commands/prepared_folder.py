"""Copies the artifacts of the pipeline's data half to the folder of a prepared dataset."""

import pathlib
import shutil

from tfx.types import artifact_utils

from cmclrec_tf.data.description import write_description
from cmclrec_tf.data.prepared import VOCABULARIES
from cmclrec_tf.processes.whole import next_to, replace_folder
from cmclrec_tf.schema import SPLITS, Schema
from pipeline.components.example_gen import COMPONENT
from pipeline.components.population import user_counts, users_by_split
from pipeline.datasets import DatasetSpec
from pipeline.metadata.outputs import Outputs
from pipeline.storage.folders import AnyPath


def write(folder: AnyPath, spec: DatasetSpec, max_history: int, outputs: Outputs) -> dict[str, int]:
    """Writes a prepared dataset. A reader sees the older one, or none, until it is complete.

    Args:
        folder: folder of the prepared dataset; an older one is replaced.
        spec: the dataset's spec.
        max_history: L.
        outputs: the artifacts of the pipeline.

    Returns:
        `{counter: number}` of users and rows.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    counts = user_counts(outputs.artifact(COMPONENT, "examples"))
    # Next to the target: a folder can be renamed within one file system only.
    with next_to(folder) as temporary:
        new = temporary / "new"
        _copy(new, spec, outputs)
        write_description(new, spec.name, spec.features, max_history, users_by_split(counts))
        replace_folder(new, folder)
    return counts


def _copy(folder: pathlib.Path, spec: DatasetSpec, outputs: Outputs) -> None:
    graph = pathlib.Path(outputs.artifact("Transform", "transform_graph").uri)
    shutil.copytree(graph, folder / "transform_graph")
    shutil.copy(graph / "transformed_metadata" / "schema.pbtxt", folder / "schema.pbtxt")
    (folder / VOCABULARIES).mkdir()
    for name in Schema(spec.features).vocabularies:
        shutil.copy(graph / "transform_fn" / "assets" / name, folder / VOCABULARIES / name)
    examples = outputs.artifact("Transform", "transformed_examples")
    for split in SPLITS:
        shutil.copytree(artifact_utils.get_split_uri([examples], split), folder / split)

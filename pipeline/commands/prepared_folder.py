"""The prepared dataset's folder, out of the artifacts of the pipeline's data half."""

import contextlib
import pathlib
import shutil
import tempfile

from tfx.types import artifact_utils

from cmclrec_tf.data.prepared import VOCABULARIES, write_description
from cmclrec_tf.schema import SPLITS, Schema
from pipeline.components.example_gen import COMPONENT
from pipeline.components.population import user_counts, users_by_split


def write(folder, spec, max_history, outputs):
    """Copies the newest artifacts aside and puts them in place at once.

    Args:
        folder: of the prepared dataset; an older one is replaced.
        spec: the `DatasetSpec`.
        max_history: L.
        outputs: `Outputs` of the pipeline.

    Returns:
        `{counter: number}` of the user records.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    counts = user_counts(outputs.artifact(COMPONENT, "examples"))
    # Beside the target, so that the renaming stays within one file system.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        aside = pathlib.Path(temporary) / "new"
        _copy(aside, spec, outputs)
        write_description(aside, spec.name, spec.features, max_history, users_by_split(counts))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(pathlib.Path(temporary) / "old")
        aside.rename(folder)
    return counts


def _copy(aside, spec, outputs):
    graph = pathlib.Path(outputs.artifact("Transform", "transform_graph").uri)
    shutil.copytree(graph, aside / "transform_graph")
    shutil.copy(graph / "transformed_metadata" / "schema.pbtxt", aside / "schema.pbtxt")
    (aside / VOCABULARIES).mkdir()
    for name in Schema(spec.features).vocabularies:
        shutil.copy(graph / "transform_fn" / "assets" / name, aside / VOCABULARIES / name)
    examples = outputs.artifact("Transform", "transformed_examples")
    for split in SPLITS:
        shutil.copytree(artifact_utils.get_split_uri([examples], split), aside / split)

"""Exports a trained model as the SavedModel that TensorFlow Serving loads."""

import os
import pathlib
import shutil
import tempfile

import keras

from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from cmclrec_tf.models.cmclrec import CMCLRec
from cmclrec_tf.processes.whole import full_disk
from cmclrec_tf.processes.writing import writing
from serving.export import item_table, origin, warmup
from serving.export.signatures import Signatures


def export(
    model: CMCLRec,
    dataset: PreparedDataset,
    folder: str | os.PathLike[str],
    config: Config | None = None,
) -> pathlib.Path:
    """Writes the SavedModel with the signatures of `serving.contract.SIGNATURES`.

    Vocabularies are stored as assets, or in the graph, if a feature has one value; warmup requests,
    and the dataset and config that the model came from, under `assets.extra`. The export is written
    to a temporary folder and then renamed, so the folder is never incomplete.

    Args:
        model: a trained model.
        dataset: the dataset with whose vocabularies the model was trained.
        folder: where to write; an empty folder is replaced.
        config: sets the list length, and whether the history is left out of the lists; the model's
            own config if None.

    Returns:
        The path of the folder.

    Raises:
        InputError: the folder is not empty or cannot be written, as when the disk is full, or the
            vocabularies are not the model's.
    """
    folder = pathlib.Path(folder)
    config = config or model.config
    if folder.exists() and any(folder.iterdir()):
        raise InputError(folder, "an export needs a new folder", "Remove it or name another one.")
    if dataset.schema != model.schema:
        raise InputError(
            f"dataset {dataset.name}",
            "its vocabularies and features must be those that the model was trained with",
            "Export with the dataset of the training.",
        )
    hides_history = config.evaluate.hides_history
    signatures = Signatures(model, dataset.vocabularies, config.serve, hides_history)
    # A Keras 3 model in a plain tf.Module can be saved, but the C++ loader cannot run it.
    archive = keras.export.ExportArchive()
    # The archive finds the variables that the endpoints read. If it tracked the model as well, it
    # would write each of them twice, and also the variables that only training needs.
    features = signatures.features
    lookups = (features.single_ids, *features.several_ids.values())
    for table in (signatures.item_ids, signatures.item_names, *lookups):
        archive.track(table)
    for name, (function, inputs) in signatures.endpoints().items():
        archive.add_endpoint(name, function, inputs)
    # This names variables for indexes of other libraries; it does not copy them.
    archive.add_variable_collection(item_table.COLLECTION, model.item_variables)

    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            archive.write_out(str(temporary), verbose=False)
            warmup.write(temporary, dataset)
            origin.write(temporary, dataset.name, dataset.schema, config)
            temporary.chmod(0o755)  # mkdtemp's folder is private; servers run as another user
            if folder.exists():
                folder.rmdir()
            temporary.rename(folder)
        except Exception as error:
            # TensorFlow has errors of its own for a full disk.
            if full := full_disk(error, [folder.parent]):
                raise full from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder

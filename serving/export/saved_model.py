"""A trained model to the SavedModel that TensorFlow Serving loads."""

import pathlib
import shutil
import tempfile

import keras

from cmclrec_tf.errors import InputError
from serving.export import item_table, warmup
from serving.export.signatures import Signatures


def export(model, dataset, folder, config=None):
    """Writes the SavedModel with `warm`, `cold`, `serving_default` and `user_embedding`.

    Vocabularies travel as assets and warmup requests under `assets.extra`. The folder appears
    complete or not at all: it is written aside, then renamed.

    Args:
        model: a trained `cmclrec_tf.CMCLRec`.
        dataset: the `PreparedDataset` whose vocabularies the model was trained with.
        folder: where to write; an empty folder is replaced.
        config: `Config` with the list length; the model's own when None.

    Returns:
        The folder's path.

    Raises:
        InputError: the folder holds something already, or the vocabularies are not the model's.
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
    signatures = Signatures(model, dataset.vocabularies, config.serve)
    # A Keras 3 model in a plain tf.Module would save, and break in the C++ loader.
    archive = keras.export.ExportArchive()
    # The archive finds the variables that endpoints read; with the model tracked, each would be
    # written twice, and those of training alone too.
    for table in (signatures.item_ids, signatures.item_names, *signatures.value_ids.values()):
        archive.track(table)
    for name, (function, inputs) in signatures.endpoints().items():
        archive.add_endpoint(name, function, inputs)
    # By name, for indexes of other libraries; it is one of the variables, not a copy.
    archive.add_variable_collection(item_table.TABLE, [model.table.value])

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        archive.write_out(str(aside), verbose=False)
        warmup.write(aside, dataset)
        aside.chmod(0o755)  # mkdtemp's folder is private; servers run as another user
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder

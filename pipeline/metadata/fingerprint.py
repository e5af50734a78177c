"""Names the checkpoint folder of a training by a digest of everything that the training reads."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from pipeline.storage.folders import is_remote

ROOT = "checkpoints"


def checkpoint_folder(
    settings: Mapping[str, Any], dataset: PreparedDataset, more: Any = None
) -> pathlib.Path | None:
    """Returns the folder for the checkpoints of a training.

    A repeated component gets new folders for its outputs. This folder depends only on the content
    of what is read, so that a training that was killed finds its checkpoints.

    Args:
        settings: the component's `custom_config`. Its entry `checkpoints` is the folder that holds
            the result.
        dataset: the dataset to train on.
        more: anything else that the training depends on, as JSON values.

    Returns:
        The folder, or None when the settings name no folder for checkpoints.

    Raises:
        InputError: the folder for checkpoints is not on a local disk.
    """
    root = settings.get(ROOT)
    if not root:
        return None
    if is_remote(root):
        raise InputError(root, "checkpoints need a local folder", "Leave checkpoints out.")
    others = {key: value for key, value in settings.items() if key != ROOT}
    return pathlib.Path(root) / _fingerprint([others, more], dataset)[:32]


def _fingerprint(values: Any, dataset: PreparedDataset) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for split, files in sorted(dataset.files.items()):
        for path in files:
            digest.update(f"{split} {_file_digest(path)}".encode())
    for name, path in sorted(dataset.vocabularies.items()):
        digest.update(f"{name} {_file_digest(path)}".encode())
    return digest.hexdigest()


def _file_digest(path: str | pathlib.Path) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(str(path), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

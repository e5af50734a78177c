"""Names, defaults and folders of the pipeline."""

import dataclasses
import pathlib

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath, make_folder
from serving.contract import MODEL_NAME

ROOT = "var"
DATASET = "movielens-100k"
PRESET = "default"
RUN_FN = "pipeline.trainer.run_fn"

# The file of a model card that `cmclrec pipeline status` prints.
SUMMARY = "summary.txt"


def lock_of(metadata: AnyPath) -> pathlib.Path:
    """Returns the lock of the pipeline with this sqlite file of ML Metadata.

    A process that writes to the artifacts or metadata must hold it.
    """
    return pathlib.Path(f"{metadata}.lock")


@dataclasses.dataclass(frozen=True)
class Folders:
    """The folders of one dataset's pipeline, all below one root.

    Attributes:
        root: folder that holds everything.
        dataset: the dataset's name.
    """

    root: AnyPath
    dataset: str

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline in ML Metadata."""
        return f"{MODEL_NAME}-{self.dataset}"

    @property
    def pipeline(self) -> pathlib.Path:
        """Folder of the components' artifacts."""
        return pathlib.Path(self.root).absolute() / "pipelines" / self.dataset

    @property
    def logs(self) -> pathlib.Path:
        """Folder of the log files of TFX, Beam and TensorFlow."""
        return self.pipeline / "logs"

    @property
    def metadata(self) -> pathlib.Path:
        """The sqlite file of ML Metadata."""
        return pathlib.Path(self.root).absolute() / "metadata" / f"{self.dataset}.db"

    @property
    def lock(self) -> pathlib.Path:
        """Lock of the artifacts and the metadata, see `processes.locks`."""
        return lock_of(self.metadata)

    @property
    def serving(self) -> pathlib.Path:
        """Model base path of TensorFlow Serving: one folder with a number for each version."""
        return pathlib.Path(self.root).absolute() / "serving" / MODEL_NAME

    def make(self) -> None:
        """Makes the folders that every run writes to.

        Raises:
            InputError: a folder cannot be written, or TFX would read its path as a pattern.
        """
        if any(mark in str(self.pipeline) for mark in "*?[]{}"):
            raise InputError(
                self.root,
                "its path must not hold any of * ? [ ] { }",
                "Give another one by --root.",
            )
        for folder in (self.logs, self.metadata.parent):
            make_folder(folder, "Give another folder by --root.")

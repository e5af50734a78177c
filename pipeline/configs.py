"""Names and folders of the pipeline, all under one root."""

import dataclasses
import hashlib
import importlib.util
import pathlib

MODEL_NAME = "cmclrec"
ROOT = "var"
DATASET = "movielens-100k"
PRESET = "default"
RUN_FN = "pipeline.trainer.run_fn"

# What decides how a model is trained and exported; globs below the rooms' folders.
_TRAINED_BY = (
    ("cmclrec_tf", "**/*.py"),
    ("serving", "export.py"),
    ("serving", "signatures.py"),
    ("serving", "warmup.py"),
)


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where a dataset's pipeline keeps things.

    Attributes:
        root: everything lies below it.
        dataset: the dataset's name.
    """

    root: pathlib.Path
    dataset: str

    @property
    def pipeline_name(self):
        return f"{MODEL_NAME}-{self.dataset}"

    @property
    def pipeline(self):
        """Artifacts of every component."""
        return pathlib.Path(self.root).absolute() / "pipelines" / self.dataset

    @property
    def logs(self):
        """What TFX, Beam and TensorFlow say while they run."""
        return self.pipeline / "logs"

    @property
    def metadata(self):
        """The sqlite file of ML Metadata."""
        return pathlib.Path(self.root).absolute() / "metadata" / f"{self.dataset}.db"

    @property
    def serving(self):
        """Pushed versions, one integer-named folder each: a model base path of TF Serving."""
        return pathlib.Path(self.root).absolute() / "serving" / MODEL_NAME


def sources():
    """Digest of the code that trains and exports, so that a changed model is trained again."""
    digest = hashlib.blake2b(digest_size=16)
    for room, pattern in _TRAINED_BY:
        folder = pathlib.Path(importlib.util.find_spec(room).origin).parent
        for path in sorted(folder.glob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

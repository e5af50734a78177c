"""Names and folders of the pipeline, all under one root."""

import dataclasses
import hashlib
import importlib
import importlib.util
import pathlib

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import make_folder
from serving.contract import MODEL_NAME

ROOT = "var"
DATASET = "movielens-100k"
PRESET = "default"
RUN_FN = "pipeline.trainer.run_fn"

# The code that decides what a component leaves: globs below the rooms' folders.
TRANSFORM_CODE = (
    ("pipeline", "preprocessing.py"),
    ("cmclrec_tf", "data/vocabulary.py"),
    ("cmclrec_tf", "schema.py"),
)
GATE_CODE = (
    ("pipeline", "components/anomalies.py"),
    ("pipeline", "components/curated.py"),
    ("pipeline", "components/data_gate.py"),
    ("pipeline", "components/rejects.py"),
)
TRAINER_CODE = (
    ("pipeline", "trainer.py"),
    ("pipeline", "tuner.py"),
    ("cmclrec_tf", "**/*.py"),
    ("serving", "export/*.py"),
)
EVALUATOR_CODE = (
    ("pipeline", "evaluation/ranking_metrics.py"),
    ("pipeline", "evaluation/slices.py"),
    ("cmclrec_tf", "evaluation/metrics.py"),
)
VALIDATOR_CODE = (
    ("pipeline", "components/serving_*.py"),
    ("pipeline", "storage/records.py"),
    ("serving", "c_api/*.py"),
    ("serving", "client/inputs.py"),
)
CARD_CODE = (
    ("pipeline", "components/model_card.py"),
    ("pipeline", "evaluation/results.py"),
    ("pipeline", "evaluation/card_text.py"),
    ("pipeline", "evaluation/slices.py"),
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
    def pipeline_name(self) -> str:
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

    def make(self) -> None:
        """Makes what every run writes to.

        Raises:
            InputError: a folder that cannot be written, or that TFX would read as a pattern.
        """
        if any(mark in str(self.pipeline) for mark in "*?[]{}"):
            raise InputError(
                self.root,
                "its path must not hold any of * ? [ ] { }",
                "Give another one by --root.",
            )
        for folder in (self.logs, self.metadata.parent):
            make_folder(folder, "Give another folder by --root.")


@dataclasses.dataclass(frozen=True)
class Sources:
    """Digests of code that are part of the cache keys, so that what changed code made is remade.

    Attributes:
        transform, gate, trainer, evaluator, validator, card: a digest a component.
    """

    transform: str
    gate: str
    trainer: str
    evaluator: str
    validator: str
    card: str

    @classmethod
    def of(cls, run_fn=RUN_FN):
        """The digests of the code as it is now, the module of `run_fn` included."""
        return cls(
            transform=sources(TRANSFORM_CODE),
            gate=sources(GATE_CODE),
            trainer=sources(TRAINER_CODE, run_fn.rpartition(".")[0]),
            evaluator=sources(EVALUATOR_CODE),
            validator=sources(VALIDATOR_CODE),
            card=sources(CARD_CODE),
        )


def sources(parts, module=None):
    """Digest of source files.

    Args:
        parts: pairs of a room and a glob below its folder.
        module: import path of one more module, which is imported; its file is added.
    """
    digest = hashlib.blake2b(digest_size=16)
    for room, pattern in parts:
        folder = pathlib.Path(importlib.util.find_spec(room).origin).parent
        for path in sorted(folder.glob(pattern)):
            name = f"{room}/{path.relative_to(folder).as_posix()}"
            digest.update(name.encode() + b"\0" + path.read_bytes())
    path = module and getattr(importlib.import_module(module), "__file__", None)
    if path:
        digest.update(module.encode() + b"\0" + pathlib.Path(path).read_bytes())
    return digest.hexdigest()

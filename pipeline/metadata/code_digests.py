"""Computes digests of the code behind each component, for the cache keys.

TFX caches a component by its inputs and properties. With the digest of its code among the
properties, the component runs again when its code changes.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

from pipeline.metadata.import_closure import closure

# The modules that each component starts from. What they import counts as well.
TRANSFORM = ("pipeline.preprocessing",)
GATE = ("pipeline.components.data_gate",)
TRAINER = ("pipeline.trainer", "pipeline.tuner")
EVALUATOR = ("pipeline.components.evaluator",)
VALIDATOR = ("pipeline.components.serving_validator",)
CARD = ("pipeline.components.model_card",)

# Imports of other packages are not followed: their versions are pinned.
PACKAGES = frozenset({"cmclrec_tf", "serving", "pipeline"})


@dataclasses.dataclass(frozen=True)
class CodeDigests:
    """The digests that are part of the components' cache keys.

    Attributes:
        transform: digest of the code that maps strings to ids.
        gate: digest of the code that judges anomalies in the data.
        trainer: digest of the code that tunes, trains and exports.
        evaluator: digest of the code that computes the metrics.
        validator: digest of the code that checks the exported model.
        card: digest of the code that writes the model card.
    """

    transform: str
    gate: str
    trainer: str
    evaluator: str
    validator: str
    card: str

    @classmethod
    def current(cls, run_fn: str) -> "CodeDigests":
        """Returns the digests of the code as it is on disk now.

        Args:
            run_fn: import path of the function that trains. Its module counts as trainer code.
        """
        return cls(
            transform=digest(TRANSFORM),
            gate=digest(GATE),
            trainer=digest((*TRAINER, run_fn.rpartition(".")[0])),
            evaluator=digest(EVALUATOR),
            validator=digest(VALIDATOR),
            card=digest(CARD),
        )


def digest(modules: Iterable[str]) -> str:
    """Returns a digest of the source files of `modules` and of all that they import.

    Args:
        modules: full names of modules, of this project or of a user's package.

    Raises:
        ModuleNotFoundError: one of `modules` does not exist.
    """
    modules = tuple(modules)
    packages = PACKAGES | {module.partition(".")[0] for module in modules}
    total = hashlib.blake2b(digest_size=16)
    for module, path in sorted(closure(modules, packages).items()):
        total.update(module.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()

"""Saves the state of a training after every epoch, and restores it after a crash."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from cmclrec_tf.processes.whole import whole_file, write_npz

if TYPE_CHECKING:
    import keras

    from cmclrec_tf.data.prepared import PreparedDataset

DONE = "done.npz"
CHECKSUM = ".sha256"
LOCK = "lock"
EPOCHS_TO_KEEP = 2


class Checkpoint(NamedTuple):
    """The state of a training after an epoch.

    Attributes:
        facts: JSON values: `epoch`, the number of epochs so far; `complete`, True once the stage
            has ended; `stopped`, whether early stopping ended it; `stopping`, the state of early
            stopping; and the config and dataset that it belongs to.
        arrays: the arrays of `model_state`, and those of the best epoch under `best/`.
    """

    facts: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


class Checkpoints:
    """The checkpoints of one stage: `epoch-00003.npz` after 3 epochs, `done.npz` after the last.

    A file holds plain arrays, no pickle. It is written under another name, synced and renamed, so a
    crash leaves no half-written checkpoint. Its SHA-256 is in a file next to it that
    `sha256sum --check` reads. The newest two epochs are kept.

    Args:
        folder: folder of the stage, on a local disk; created when it is missing.
        config: the `Config` of the training.
        dataset: its `PreparedDataset`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], config: Config, dataset: "PreparedDataset"
    ) -> None:
        self.folder = pathlib.Path(folder)
        self.identity = {"config": _training_config(config), "dataset": _dataset_identity(dataset)}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other trainings off the folder.

        Raises:
            InputError: another training uses it.
        """
        fix = "Wait until it ends, or give another folder for checkpoints."
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / DONE).is_file() and not os.access(self.folder, os.W_OK):
            yield  # on read-only storage a complete stage can only be loaded
            return
        with locks.exclusive(self.folder / LOCK, self.folder, fix):
            yield

    def save(self, epoch: int, arrays: dict[str, npt.NDArray[Any]], **facts: Any) -> None:
        """Writes the state after `epoch` epochs; `complete=True` marks the end of the stage.

        Args:
            epoch: number of epochs so far.
            arrays: {name: array}, see `Checkpoint`.
            facts: JSON values that `newest` returns.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (DONE if facts.get("complete") else f"epoch-{epoch:05d}.npz")
        text = json.dumps({"epoch": epoch, **facts, **self.identity})
        with whole_file(path) as new:
            with new.open("wb") as data:
                write_npz(data, {"facts": np.array(text), **arrays})
            # The checksum comes first: no checkpoint exists without one.
            with whole_file(self.folder / (path.name + CHECKSUM)) as checksum:
                checksum.write_text(f"{_digest(new)}  {path.name}\n")
        # Those of later epochs are of a training that this one does not continue.
        epochs = self._epochs()
        later = [old for old in epochs if path.name != DONE and old.name > path.name]
        for old in [*later, *epochs[len(later) + EPOCHS_TO_KEEP :]]:
            old.unlink()
            (self.folder / (old.name + CHECKSUM)).unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """Returns the newest sound checkpoint, or None.

        A damaged one is skipped, with a warning that names it. So is one that does not hold the
        bounds and the scales of the user features: nothing shows whether its weights fit them.

        Raises:
            InputError: the checkpoint belongs to another config or another dataset.
        """
        done = self.folder / DONE
        paths = [done] * done.is_file() + self._epochs()
        for path in paths:
            try:
                checkpoint = _read(path)
            except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
                warnings.warn(
                    f"{path} is damaged ({error}): using the checkpoint before it", stacklevel=2
                )
                continue
            if not _holds_scales(checkpoint.facts):
                line = f"{path} does not say how its user features are scaled: it is not used"
                warnings.warn(line, stacklevel=2)
                continue
            self._check(checkpoint.facts)
            return checkpoint
        if paths:
            warnings.warn(
                f"{self.folder} holds no checkpoint that can be used: the stage starts again",
                stacklevel=2,
            )
        return None

    def _epochs(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob("epoch-*.npz"), reverse=True)

    def _check(self, facts: dict[str, Any]) -> None:
        for part, now in self.identity.items():
            prefix = "" if part == "config" else f"{part}."
            for field, then, value in _differences(facts[part], now, prefix):
                raise InputError(
                    field,
                    f"{then} in the checkpoint, {value} now",
                    f"Continue with the same one, or use another folder than {self.folder}.",
                )


def model_state(model: "keras.Model") -> dict[str, npt.NDArray[Any]]:
    """Returns all that a fit changes, {name: array}: weights, seeds, slots and iterations."""
    return {name: ops.convert_to_numpy(v) for name, v in _variables(model).items()}


def restore_model(model: "keras.Model", arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Puts the arrays of `model_state` back into a built and compiled model.

    Raises:
        InputError: the arrays belong to another model.
    """
    variables = _variables(model)
    shapes = {n: a.shape for n, a in arrays.items() if n.split("/")[0] in ("model", "optimizer")}
    if shapes != {name: tuple(v.shape) for name, v in variables.items()}:
        raise InputError(
            "the checkpoint's weights",
            "they must be those of this model",
            "Its code has changed: start with an empty checkpoint folder.",
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model: "keras.Model") -> dict[str, "keras.Variable"]:
    # `model.variables` includes the states of seed generators, which `save_weights` leaves out.
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{part}/{i}": v for part, listed in parts.items() for i, v in enumerate(listed)}


def _training_config(config: Config) -> dict[str, Any]:
    """Returns the config without `serve`, which no training reads, as JSON gives it back."""
    values = {part: v for part, v in config.to_dict().items() if part != "serve"}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _dataset_identity(dataset: "PreparedDataset") -> dict[str, Any]:
    """Returns what distinguishes a dataset from others; sizes alone would not."""
    return {
        "items": dataset.schema.items,
        "digest": dataset.schema.digest,
        "users": dict(dataset.users),
        "features": {f["name"]: f for f in dataset.schema.to_dict()["features"]},
    }


def _holds_scales(facts: dict[str, Any]) -> bool:
    return all("scale" in feature for feature in facts["dataset"]["features"].values())


def _differences(
    then: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the fields that differ as (dotted name, then, now), in the order of the fields."""
    for key in [*now, *(key for key in then if key not in now)]:
        one, two = then.get(key, "nothing"), now.get(key, "nothing")
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _differences(one, two, f"{prefix}{key}.")
        elif one != two and not _are_close(one, two):
            yield f"{prefix}{key}", one, two


def _are_close(one: Any, two: Any) -> bool:
    """Returns whether two numbers are one in 32 bits: a mean depends on the order of the rows."""
    return (
        isinstance(one, float) and isinstance(two, float) and math.isclose(one, two, rel_tol=1e-6)
    )


def _read(path: pathlib.Path) -> Checkpoint:
    expected = path.with_name(path.name + CHECKSUM).read_text().split()[0]
    if _digest(path) != expected:
        raise ValueError("its checksum is another one")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return Checkpoint(json.loads(str(arrays.pop("facts"))), arrays)


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""The state of a training on disk, so that a killed one goes on as if nothing had happened."""

import hashlib
import json
import os
import pathlib
import warnings
import zipfile
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from cmclrec_tf.errors import InputError

DONE = "done.npz"
CHECKSUM = ".sha256"
KEPT = 2


class Checkpoint(NamedTuple):
    """The state of a training after an epoch.

    Attributes:
        facts: JSON values: `epoch`, the number of epochs so far; `complete`, when the stage has
            ended; `stopped`, when early stopping ended it; `stopping`, the state of early stopping.
        arrays: `model_state`, and under `best/` the weights of the best epoch.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoints:
    """The checkpoints of one stage: `epoch-00003.npz` after 3 epochs, `done.npz` after the last.

    A file holds plain arrays (no pickle) and is written aside, synced and renamed; its SHA-256 lies
    beside it, as `sha256sum --check` reads it. The newest two epochs are kept.

    Args:
        folder: of the stage, on a local disk; made when it is missing.
        config: the `Config` of the training.
        dataset: its `PreparedDataset`.
    """

    def __init__(self, folder, config, dataset):
        self.folder = pathlib.Path(folder)
        self.identity = {"config": _trained_by(config), "dataset": _trained_on(dataset)}

    def save(self, epoch, arrays, **facts) -> None:
        """Writes the state after `epoch` epochs; with `complete=True` that of a finished stage.

        Args:
            arrays: {name: array}.
            facts: JSON values that come back from `newest`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (DONE if facts.get("complete") else f"epoch-{epoch:05d}.npz")
        facts = json.dumps({"epoch": epoch, **facts, **self.identity})
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            np.savez(file, facts=np.array(facts), **arrays)
            _sync(file)
        # The checksum comes first: a checkpoint is never there without it.
        line = f"{_digest(aside)}  {path.name}\n"
        checksum = self.folder / (path.name + CHECKSUM)
        with checksum.with_suffix(".sum").open("w") as file:
            file.write(line)
            _sync(file)
        os.replace(file.name, checksum)
        os.replace(aside, path)
        _sync_folder(self.folder)
        for old in self._epochs()[KEPT:]:
            old.unlink()
            (self.folder / (old.name + CHECKSUM)).unlink(missing_ok=True)

    def newest(self):
        """(facts, arrays) of the newest sound checkpoint, or None.

        A damaged one is passed over, with a warning that names it.

        Raises:
            InputError: it belongs to another config or another dataset.
        """
        done = self.folder / DONE
        paths = [done] * done.is_file() + self._epochs()
        for path in paths:
            try:
                facts, arrays = _read(path)
            except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
                warnings.warn(
                    f"{path} is damaged ({error}): going back to the checkpoint before",
                    stacklevel=2,
                )
                continue
            self._check(facts)
            return Checkpoint(facts, arrays)
        if paths:
            warnings.warn(
                f"{self.folder} holds no sound checkpoint: the stage starts anew", stacklevel=2
            )
        return None

    def _epochs(self):
        return sorted(self.folder.glob("epoch-*.npz"), reverse=True)

    def _check(self, facts):
        for part, now in self.identity.items():
            prefix = "" if part == "config" else f"{part}."
            for field, then, value in _differences(facts[part], now, prefix):
                raise InputError(
                    field,
                    f"{then} in the checkpoint, {value} now",
                    f"Go on with the same one, or give another folder than {self.folder}.",
                )


def model_state(model):
    """{name: array} of all that a fit changes: weights, seeds' states, slots and iterations."""
    return {name: ops.convert_to_numpy(v) for name, v in _variables(model).items()}


def restore_model(model, arrays) -> None:
    """Puts `model_state` back into a built and compiled model.

    Raises:
        InputError: the arrays are of another model.
    """
    variables = _variables(model)
    saved = {n: a.shape for n, a in arrays.items() if n.split("/")[0] in ("model", "optimizer")}
    if saved != {name: tuple(v.shape) for name, v in variables.items()}:
        raise InputError(
            "the checkpoint's weights",
            "they must be those of this model",
            "Its code has changed: start with an empty checkpoint folder.",
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(model):
    # `variables` holds the states of seed generators, which `save_weights` leaves out.
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{part}/{i}": v for part, listed in parts.items() for i, v in enumerate(listed)}


def _trained_by(config):
    """The config without its part that no training reads, as JSON gives it back."""
    values = {part: v for part, v in config.to_dict().items() if part != "serve"}
    return json.loads(json.dumps(values))


def _trained_on(dataset):
    """What tells a dataset from another one; sizes alone would not."""
    kept = [{"name": f.name, "kind": f.kind, "size": f.size} for f in dataset.schema.features]
    return {
        "items": dataset.schema.items,
        "digest": dataset.schema.digest,
        "users": dict(dataset.users),
        "features": {f["name"]: f for f in kept},
    }


def _differences(then, now, prefix=""):
    """The fields that differ, as (dotted name, then, now), in the order of the fields."""
    for key in [*now, *(key for key in then if key not in now)]:
        one, two = then.get(key, "nothing"), now.get(key, "nothing")
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _differences(one, two, f"{prefix}{key}.")
        elif one != two:
            yield f"{prefix}{key}", one, two


def _read(path):
    expected = path.with_name(path.name + CHECKSUM).read_text().split()[0]
    if _digest(path) != expected:
        raise ValueError("its checksum is another one")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("facts"))), arrays


def _digest(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(file):
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder):
    """So that the renaming itself outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

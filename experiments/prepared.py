"""The prepared dataset of each run, made by the pipeline in a process of its own.

TFX takes half a minute to load and sets TF_USE_LEGACY_KERAS, so the process that trains never
loads it.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys

from cmclrec_tf.errors import InputError, ReadableError
from pipeline.datasets import check, fetch, load_spec, states
from pipeline.metadata import code_digests
from pipeline.transforms.record import RECORD_VERSION


def label(dataset, data):
    """The dataset's name, and behind it the split where it is not the usual one."""
    return dataset if data.split == "users" else f"{dataset}-{data.split}"


@dataclasses.dataclass(frozen=True)
class Given:
    """Prepared datasets that exist already.

    Attributes:
        pattern: their folders, with `{run}` for the number of the run.
    """

    pattern: str

    def folder(self, run, data):
        """The folder of the prepared dataset of run number `run`."""
        return pathlib.Path(self.pattern.replace("{run}", str(run)))


class Made:
    """Prepared datasets that are made when they are first asked for.

    Args:
        dataset: a dataset's name, or the path of its spec.
        data_dir: folder of the raw files; None fetches them.
        root: folder of the pipeline's artifacts, and of the prepared datasets.

    Raises:
        InputError: a wrong spec, or wrong files.
    """

    def __init__(self, dataset, data_dir, root):
        self._dataset, self._root = dataset, pathlib.Path(root)
        self.spec = load_spec(dataset)
        self._data_dir = fetch(self.spec, data_dir)
        check(self.spec, self._data_dir)

    def folder(self, run, data):
        """The folder of the prepared dataset of run number `run`.

        Args:
            data: `DataConfig` of the run.

        Raises:
            PrepareError: the pipeline failed; what it said is on standard error.
        """
        folder = self._root / "prepared" / f"{label(self.spec.name, data)}-salt{run}"
        stamp = folder.with_name(f"{folder.name}.json")
        state = json.dumps(self._state(data), sort_keys=True)
        if folder.is_dir() and stamp.is_file() and stamp.read_text() == state:
            return folder
        stamp.unlink(missing_ok=True)
        self._prepare(folder, data)
        stamp.write_text(state)
        return folder

    def _state(self, data):
        """What a prepared dataset depends on."""
        return {
            "data": dataclasses.asdict(data),
            "spec": self.spec.to_dict(),
            "files": states(self.spec, self._data_dir),
            "code": [RECORD_VERSION, code_digests.digest(code_digests.TRANSFORM)],
        }

    def _prepare(self, folder, data):
        request = {
            "dataset": str(self._dataset),
            "out": str(folder),
            "data": dataclasses.asdict(data),
            "data_dir": str(self._data_dir),
            "root": str(self._root),
        }
        command = [sys.executable, "-m", "experiments.prepare_process"]
        done = subprocess.run(command, input=json.dumps(request), text=True, check=False)
        if done.returncode:
            raise PrepareError(f"{folder}: it could not be prepared; see the lines above.")


def source(dataset, data_dir=None, root="var", prepared=None, runs=1):
    """The datasets of the runs, `Given` or `Made`, and the dataset's name.

    Args:
        prepared: pattern of prepared datasets that exist; with it nothing is made.
        runs: number of runs.
        The others: see `Made`.

    Raises:
        InputError: as `Made` does, or a pattern that gives every run the same dataset.
    """
    if not prepared:
        made = Made(dataset, data_dir, root)
        return made, made.spec.name
    if runs > 1 and "{run}" not in prepared:
        raise InputError(prepared, "it must hold {run}", "Correct --prepared.")
    return Given(prepared), pathlib.Path(dataset).stem


class PrepareError(ReadableError):
    """The pipeline could not prepare a dataset."""

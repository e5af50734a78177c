"""The prepared dataset of each run, made by the pipeline in a process of its own.

TFX takes half a minute to load and sets TF_USE_LEGACY_KERAS. The process that trains therefore
never loads it.
"""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

from cmclrec_tf.config import BY_USERS, DataConfig
from cmclrec_tf.errors import InputError, ReadableError
from cmclrec_tf.processes import locks
from experiments.run_folders import Folder, replace_text
from pipeline.datasets import check, fetch, load_spec, states
from pipeline.metadata import code_digests
from pipeline.storage.folders import make_folder
from pipeline.transforms import first_rows
from pipeline.transforms.record import RECORD_VERSION


def label(dataset: str, data: DataConfig) -> str:
    """Returns the name of a dataset, followed by its split and T unless it is the usual one."""
    if data.split == BY_USERS:
        return dataset
    time = re.sub(r"[^\w.+-]", "", data.split_time)
    return "-".join([dataset, data.split, *([time] if time else [])])


@dataclasses.dataclass(frozen=True)
class ExistingDatasets:
    """Prepared datasets that exist already.

    Attributes:
        pattern: path of their folders, with `{run}` for the number of the run.
    """

    pattern: str

    def folder(self, run: int, data: DataConfig) -> pathlib.Path:
        """Returns the folder of the prepared dataset of run number `run`."""
        return pathlib.Path(self.pattern.replace("{run}", str(run)))


class PreparedOnDemand:
    """Prepared datasets that are made at first use, and again when their inputs change.

    Args:
        dataset: name of a dataset, or path of its spec.
        data_dir: folder of the raw files; None downloads them.
        root: folder of the pipeline's artifacts and of the prepared datasets.

    Raises:
        InputError: the spec or the raw files are wrong.
    """

    def __init__(self, dataset: str, data_dir: Folder | None, root: Folder) -> None:
        self._dataset, self._root = dataset, pathlib.Path(root)
        self.spec = load_spec(dataset)
        self._data_dir = fetch(self.spec, data_dir)
        check(self.spec, self._data_dir)

    def folder(self, run: int, data: DataConfig) -> pathlib.Path:
        """Returns the folder of the prepared dataset of run number `run`.

        Args:
            run: number of the run.
            data: `DataConfig` of the run.

        Raises:
            InputError: `data.split_time` is not written as the times of the log are.
            PrepareError: the pipeline failed; its messages are on standard error.
        """
        folder = self._root / "prepared" / f"{label(self.spec.name, data)}-salt{run}"
        stamp = folder.with_name(f"{folder.name}.json")
        make_folder(folder.parent, "Give another folder by --root.")
        with locks.waiting(folder.with_name(f".{folder.name}.lock")):
            first_rows.split_time(self.spec, self._data_dir, data)  # an error before TFX loads
            state = json.dumps(self._state(data), sort_keys=True)
            if folder.is_dir() and stamp.is_file() and stamp.read_text() == state:
                return folder
            stamp.unlink(missing_ok=True)
            self._prepare(folder, data)
            replace_text(stamp, state)
            return folder

    def _state(self, data: DataConfig) -> dict[str, Any]:
        """Returns everything that a prepared dataset depends on."""
        return {
            "data": dataclasses.asdict(data),
            "spec": self.spec.to_dict(),
            "files": states(self.spec, self._data_dir),
            "code": [RECORD_VERSION, code_digests.digest(code_digests.TRANSFORM)],
        }

    def _prepare(self, folder: pathlib.Path, data: DataConfig) -> None:
        request = {
            "dataset": str(self._dataset),
            "out": str(folder),
            "data": dataclasses.asdict(data),
            "data_dir": str(self._data_dir),
            "root": str(self._root),
        }
        command = [sys.executable, "-m", "experiments.prepare_process"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
            try:
                process.communicate(json.dumps(request))
            except BaseException:
                process.terminate()  # it ends its own processes then, and removes what it wrote
                raise
        if process.returncode:
            raise PrepareError(f"{folder} could not be prepared; the lines above say why.")


Datasets = ExistingDatasets | PreparedOnDemand


def datasets_of_runs(
    dataset: str,
    data_dir: Folder | None = None,
    root: Folder = "var",
    prepared: str | None = None,
    runs: int = 1,
) -> tuple[Datasets, str]:
    """Returns the datasets of the runs, and the name of the dataset.

    Args:
        dataset, data_dir, root: see `PreparedOnDemand`.
        prepared: path pattern of prepared datasets that exist; nothing is prepared then.
        runs: number of runs.

    Raises:
        InputError: see `PreparedOnDemand`; or the pattern gives every run the same dataset.
    """
    if not prepared:
        datasets = PreparedOnDemand(dataset, data_dir, root)
        return datasets, datasets.spec.name
    if runs > 1 and "{run}" not in prepared:
        raise InputError(
            f"--prepared {prepared}", "with several runs it must hold {run}", "Correct --prepared."
        )
    return ExistingDatasets(prepared), pathlib.Path(dataset).stem


class PrepareError(ReadableError):
    """The pipeline could not prepare a dataset."""

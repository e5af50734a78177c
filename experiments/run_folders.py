"""Writes and reads the results of one run of one row, in a folder of its own."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.processes import locks
from cmclrec_tf.processes.whole import whole_file

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.evaluation import Report

Folder: TypeAlias = str | os.PathLike[str]
Versions: TypeAlias = dict[str, str]
"""{library: version}."""
UserValues: TypeAlias = dict[str, NDArray[Any]]
"""{column: one value per test user}."""

METRICS = "metrics.json"
USERS = "users.parquet"
LIBRARIES = ("tensorflow", "keras", "numpy", "cmclrec-tf")

# Columns per user, in addition to `row` (the position in the test split), `is_cold` and `rank`.
VALUES = ("recall@20", "ndcg@20", "recall_all@20", "ndcg_all@20")
# A further column, of models that predict shares.
LIKELIHOOD = "log_likelihood"
# A further column where all runs have the same test users: a hash of the user id.
KEY = "user"


def results_folder(out: Folder | None, root: Folder, name: str) -> pathlib.Path:
    """Returns the folder of a dataset's results: `out`, or a default below `root`."""
    return pathlib.Path(out or pathlib.Path(root) / "experiments" / name)


def lock(out: Folder) -> contextlib.AbstractContextManager[None]:
    """Waits until no other experiment uses a folder of results, and keeps others waiting."""
    return locks.waiting(pathlib.Path(out) / ".lock")


def run_folder(out: Folder, run: int, row: str) -> pathlib.Path:
    """Returns the folder of run number `run` of a row, below the experiment's folder."""
    return pathlib.Path(out) / f"run{run}" / row


def digest(settings: dict[str, Any], dataset: "PreparedDataset") -> str:
    """Returns a hash of 16 letters of everything that a result depends on.

    Args:
        settings: plain values that decide what is trained, see `Row.settings`.
        dataset: `PreparedDataset`.
    """
    depends = {
        "settings": settings,
        "vocabularies": dataset.schema.digest,
        "features": dataset.schema.to_dict()["features"],
        "users": dict(dataset.users),
        "max_history": dataset.max_history,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def write(
    folder: Folder, report: "Report", keys: NDArray[np.int64] | None = None, **facts: Any
) -> None:
    """Writes a report, and facts about the run.

    Args:
        folder: created if it is missing.
        report: `cmclrec_tf.evaluation.Report`.
        keys: keys of the users, if they are stored, see KEY.
        facts: plain values: `digest`, `settings`, `seconds`, `tuning` (see `Row.tuning`), and
            `resumed`, which is true if the training was killed once: `seconds` then count the last
            start alone.
    """
    import pyarrow
    import pyarrow.parquet

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The metrics are written last: a folder that has them is complete.
    (folder / METRICS).unlink(missing_ok=True)
    columns = {
        "row": np.arange(len(report.is_cold), dtype=np.int32),
        "is_cold": report.is_cold,
        "rank": report.ranks.astype(np.int32),
        **{name: report.users[name] for name in (*VALUES, LIKELIHOOD) if name in report.users},
        **({} if keys is None else {KEY: keys}),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / USERS)
    metrics = {**facts, "segments": report.rows, "versions": library_versions()}
    replace_text(folder / METRICS, json.dumps(metrics, indent=1))


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a file in one step: readers see the old text or the new one, never a part."""
    with whole_file(path) as new:
        new.write_text(text)


def library_versions() -> Versions:
    """Returns the versions of Python and of the libraries that results depend on."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries}


def read(folder: Folder) -> dict[str, Any] | None:
    """Returns the metrics and facts that `write` stored, or None if there is no complete result."""
    path = pathlib.Path(folder) / METRICS
    return json.loads(path.read_text()) if path.is_file() else None


def read_users(folder: Folder) -> UserValues:
    """Returns the stored values per user, in the order of the test split.

    `LIKELIHOOD` is missing where the model has none, and from results that were stored without it.
    """
    from pipeline.datasets.parquet import open_parquet

    path = pathlib.Path(folder) / USERS
    with open(path, "rb") as file:
        table = open_parquet(file, path).read()
    return {name: table[name].to_numpy() for name in table.column_names}

"""What a run of a model leaves, in a folder of its own."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform

import numpy as np

METRICS = "metrics.json"
USERS = "users.parquet"
LIBRARIES = ("tensorflow", "keras", "numpy", "cmclrec-tf")

# Per user, beside `row` (its place in the test split), `is_cold` and `rank`.
VALUES = ("recall@20", "ndcg@20", "recall_all@20", "ndcg_all@20")


def results_folder(out, root, name):
    """Where the results of a dataset lie: `out` if it is given."""
    return pathlib.Path(out or pathlib.Path(root) / "experiments" / name)


def place(out, run, row):
    """Folder of what run number `run` of a row leaves, below the experiment's folder."""
    return pathlib.Path(out) / f"run{run}" / row


def digest(settings, dataset):
    """What a result depends on, in 16 letters.

    Args:
        settings: plain values that decide what is trained, `Row.settings()`.
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


def write(folder, report, **about) -> None:
    """Writes a report and what is known about it.

    Args:
        folder: made if need be.
        report: `cmclrec_tf.evaluation.Report`.
        about: plain values: digest, settings, seconds, tuning (`Row.tuning`), and whether a
            killed training was `resumed`: its seconds are those of the last start.
    """
    import pyarrow
    import pyarrow.parquet

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The metrics are written last: a folder that has them is whole.
    (folder / METRICS).unlink(missing_ok=True)
    columns = {
        "row": np.arange(len(report.is_cold), dtype=np.int32),
        "is_cold": report.is_cold,
        "rank": report.ranks.astype(np.int32),
        **{name: report.users[name] for name in VALUES},
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / USERS)
    written = {**about, "segments": report.rows, "versions": versions()}
    aside = folder / f".{METRICS}"
    aside.write_text(json.dumps(written, indent=1))
    aside.rename(folder / METRICS)


def versions():
    """{name: version} of what a result is computed with."""
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries}


def read(folder):
    """What `write` left, as a dict; None where there is nothing whole."""
    path = pathlib.Path(folder) / METRICS
    return json.loads(path.read_text()) if path.is_file() else None


def read_users(folder):
    """{column: array} per user, in the order of the test split."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(pathlib.Path(folder) / USERS)
    return {name: table[name].to_numpy() for name in table.column_names}

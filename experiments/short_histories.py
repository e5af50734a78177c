"""Compares history, features and both together for users with few events, out of one model."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import PAD, TEST
from experiments import run_folders
from experiments.run_datasets import datasets_of_runs, label
from experiments.run_folders import Folder
from experiments.run_table import Outcome, check_histories, config_from_options, load_run
from experiments.short_histories_report import (
    EVENTS,
    FEATURES,
    FULL,
    HISTORY,
    RULES,
    TOGETHER,
    USERS,
    K,
    RunRanks,
    write,
)
from experiments.table_rows import Row, parse_rows
from pipeline.storage.folders import make_folder

if TYPE_CHECKING:
    import pathlib

    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.types import Features, FloatBD, IdsBK, IdsBL

    Lists: TypeAlias = Callable[[IdsBL, Features], IdsBK]
    """(shortened histories, user features) -> the K best items of each user."""

POPULARITY = ("popularity", "popularity-last")
MODEL, RANKS = "model.keras", "ranks.npz"
_BATCH = 256


def run(
    dataset: str,
    *,
    model: str = "default",
    runs: int = 5,
    data_dir: Folder | None = None,
    preset: str | None = None,
    config_path: Folder | None = None,
    root: Folder = "var",
    out: Folder | None = None,
    prepared: str | None = None,
    command: str | None = None,
) -> Outcome:
    """Trains a CMCLRec row and its backbone alone on every run, and shortens the test histories.

    Args:
        dataset, runs, data_dir, preset, config_path, root, out, prepared: the options of
            `cmclrec experiment`, see `experiments/cli.py`.
        model: name of a CMCLRec row.
        command: the command line, printed below the tables.

    Raises:
        InputError: a wrong dataset, model, config or folder.
    """
    datasets, name = datasets_of_runs(dataset, data_dir, root, prepared, runs)
    config = config_from_options(preset, config_path)
    (row,) = parse_rows([model], name, config)
    if not row.is_cmclrec:
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec reads histories and user features together",
            "Give a preset, such as default, by --model.",
        )
    rows = parse_rows([model, row.config.model.backbone, *POPULARITY], name, config)
    name = label(name, row.config.data)
    out = run_folders.results_folder(out, root, name)
    make_folder(out, "Give another folder by --out.")
    check_histories(datasets, runs, rows)
    with run_folders.lock(out):
        ranks: list[RunRanks] = []
        versions, trained = [], 0
        for number in range(runs):
            run_dataset, run_rows = load_run(datasets, number, rows)
            ranks.append({})
            for run_row in run_rows:
                folder = run_folders.run_folder(out, number, f"short-{run_row.name}")
                row_ranks, facts, is_new = _ranks_of_run(run_row, run_dataset, folder)
                ranks[-1] |= row_ranks
                versions.append(facts["versions"])
                trained += is_new
        others = [each.name for each in rows[1:]]
        page = write(out, name, row.name, others, ranks, versions, command)
    return Outcome(page.text, page.files, trained)


def _ranks_of_run(
    row: Row, dataset: "PreparedDataset", folder: "pathlib.Path"
) -> tuple[RunRanks, dict[str, Any], bool]:
    """Returns the ranks of one row in a run, facts about it, and whether it was trained now."""
    facts = {
        "digest": run_folders.digest(row.settings(), dataset),
        "rules": RULES if row.is_cmclrec else [row.name],
        "events": EVENTS,
        "k": K,
    }
    facts = json.loads(json.dumps(facts))
    path = folder / RANKS
    if path.is_file():
        with np.load(path) as stored:
            stored_facts = json.loads(str(stored["about"]))
            if facts.items() <= stored_facts.items():
                ranks = {name: stored[name] for name in stored.files if name != "about"}
                return ranks, stored_facts, False
    folder.mkdir(parents=True, exist_ok=True)
    model, is_new = _model(row, dataset, folder, facts["digest"])
    ranks = ranks_of(lists_of(row, model), dataset.with_history(row.config.data.max_history))
    facts["versions"] = run_folders.library_versions()
    temporary = path.with_name(f".{RANKS}")
    arrays: dict[str, Any] = {"about": np.array(json.dumps(facts)), **ranks}
    np.savez_compressed(temporary, **arrays)
    temporary.rename(path)
    return ranks, facts, is_new


def _model(
    row: Row, dataset: "PreparedDataset", folder: "pathlib.Path", digest: str
) -> tuple[Any, bool]:
    """Returns the row's model, and whether it was trained now.

    A trained model is kept next to the ranks, as new rules can reuse it; a floor is counted again.
    """
    import keras

    import cmclrec_tf.models  # noqa: F401 - registers the classes that the file names

    if row.kind == "floor":
        return row.train(dataset), False
    path, stamp = folder / MODEL, folder / "model.json"
    stored_digest = json.loads(stamp.read_text())["digest"] if stamp.is_file() else None
    if path.is_file() and stored_digest == digest:
        return keras.saving.load_model(path), False
    keras.backend.clear_session()
    print(f"run {row.config.seed}, {row.name}: training", file=sys.stderr, flush=True)
    start = time.monotonic()
    checkpoints = folder / "checkpoints"
    model: Any = row.train(dataset, log_dir=folder / "logs", checkpoint_dir=checkpoints / digest)
    stamp.unlink(missing_ok=True)
    model.save(path)
    stamp.write_text(json.dumps({"digest": digest, "seconds": time.monotonic() - start}))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model, True


def lists_of(row: Row, model: Any) -> dict[str, "Lists"]:
    """Returns how each rule of a row lists items, {rule: lists}.

    A list leaves out the shortened history alone, or no item with `evaluate.seen_items: keep`.

    Args:
        row: the `Row`.
        model: its recommender.
    """
    from cmclrec_tf.models import ranking

    def users(history: "IdsBL", features: "Features") -> Any:
        return {
            "history": history,
            "features": features,
            "is_cold": np.zeros(len(history), bool),
        }

    def by_states(states: "Callable[[IdsBL, Features], FloatBD]") -> "Lists":
        hides = model.config.evaluate.hides_history
        return lambda history, features: ranking.recommend(
            model.score(states(history, features)), users(history, features), K, hides
        )

    if row.is_cmclrec:
        return {
            HISTORY: by_states(lambda history, _: model.warm_states(history)),
            FEATURES: by_states(lambda _, features: model.cold_states(features)),
            TOGETHER: by_states(model.states),
        }
    return {row.name: lambda history, features: model.recommend(users(history, features), K)}


def ranks_of(
    lists: "Mapping[str, Lists]", dataset: "PreparedDataset", split: str = TEST
) -> RunRanks:
    """Ranks the last item of a split's warm users, with only their newest n events known.

    Args:
        lists: see `lists_of`.
        dataset: `PreparedDataset`.
        split: `train`, `val` or `test`.

    Returns:
        {'rule/n': int32 [users]} for each rule and each n of EVENTS, with the users who have n
        events or more in the order of the split. Ranks count from 1; 0 means that the item is not
        among the first K. 'users/n' holds the keys of these users, int64.
    """
    parts: dict[str, list[NDArray[Any]]] = {
        f"{name}/{n}": [np.zeros(0, np.int64 if name == USERS else np.int32)]
        for name in (*lists, USERS)
        for n in EVENTS
    }
    for batch in dataset.batches(split, _BATCH):
        warm = ~batch["is_cold"].numpy()
        target, history = batch["target"].numpy()[warm, 0], batch["history"].numpy()[warm]
        features = {name: values.numpy()[warm] for name, values in batch["features"].items()}
        for n in EVENTS:
            rows = (history != PAD).sum(axis=1) >= n
            if not rows.any():
                continue
            parts[f"{USERS}/{n}"].append(batch["user_key"].numpy()[warm][rows])
            newest = newest_only(history[rows], n)
            row_features = {name: values[rows] for name, values in features.items()}
            for rule, list_items in lists.items():
                hit = np.asarray(list_items(newest, row_features)) == target[rows, None]
                ranks = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), 0)
                parts[f"{rule}/{n}"].append(ranks.astype(np.int32))
    return {name: np.concatenate(ranks) for name, ranks in parts.items()}


def newest_only(history: np.ndarray, n: int) -> np.ndarray:
    """Returns history ids [B, L] with only the newest n kept; FULL keeps all."""
    return history if n == FULL else np.where(np.arange(history.shape[1])[::-1] < n, history, PAD)

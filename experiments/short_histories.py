"""Compares the warm path, the cold path and blends of both for users with few events."""

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, PAD, TEST, VAL
from experiments import run_folders
from experiments.run_datasets import datasets_of_runs, label
from experiments.run_folders import Folder
from experiments.run_table import Outcome, check_histories, config_from_options, load_run
from experiments.short_histories_report import (
    COLD,
    COUNTS,
    EVENTS,
    FULL,
    JOINED,
    RULES,
    SHARES,
    WARM,
    Ranks,
    RunRanks,
    count_rule,
    share_rule,
    write,
)
from experiments.table_rows import Row, parse_rows
from pipeline.storage.folders import make_folder

if TYPE_CHECKING:
    import pathlib

    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models import CMCLRec
    from cmclrec_tf.types import Features, FloatBD, FloatBV, IdsB, IdsBL

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
    """Trains a CMCLRec row on every run, and applies every rule to shortened histories.

    Args:
        dataset, runs, data_dir, preset, config_path, root, out, prepared: the options of
            `cmclrec experiment`, see `experiments/cli.py`.
        model: name of a CMCLRec row.
        command: the command line, printed below the tables.

    Raises:
        InputError: a wrong dataset, model, config or folder.
    """
    datasets, name = datasets_of_runs(dataset, data_dir, root, prepared, runs)
    (row,) = parse_rows([model], name, config_from_options(preset, config_path))
    if not row.is_cmclrec:
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec has a warm and a cold path",
            "Give a preset, such as default, by --model.",
        )
    name = label(name, row.config.data)
    out = run_folders.results_folder(out, root, name)
    make_folder(out, "Give another folder by --out.")
    check_histories(datasets, runs, [row])
    with run_folders.lock(out):
        ranks, versions, trained = [], [], 0
        for number in range(runs):
            run_dataset, (run_row,) = load_run(datasets, number, [row])
            folder = run_folders.run_folder(out, number, f"short-{row.name}")
            run_ranks, facts, is_new = _ranks_of_run(run_row, run_dataset, folder)
            ranks.append(run_ranks)
            versions.append(facts["versions"])
            trained += is_new
        page = write(out, name, row, ranks, versions, command)
    return Outcome(page.text, page.files, trained)


def _ranks_of_run(
    row: Row, dataset: "PreparedDataset", folder: "pathlib.Path"
) -> tuple[RunRanks, dict[str, Any], bool]:
    """Returns the ranks of a run, facts about it, and whether the model was trained now."""
    facts = {
        "digest": run_folders.digest(row.settings(), dataset),
        "rules": RULES,
        "events": EVENTS,
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
    model, is_new = _trained_model(row, dataset, folder, facts["digest"])
    ranks = {
        f"{split}/{n}": ranks_of_n
        for split in (VAL, TEST)
        for n, ranks_of_n in ranks_of(model, dataset, split).items()
    }
    facts["versions"] = run_folders.library_versions()
    temporary = path.with_name(f".{RANKS}")
    np.savez_compressed(temporary, about=np.array(json.dumps(facts)), **ranks)
    temporary.rename(path)
    return ranks, facts, is_new


def _trained_model(
    row: Row, dataset: "PreparedDataset", folder: "pathlib.Path", digest: str
) -> tuple["CMCLRec", bool]:
    """Returns the trained model; it is kept next to the ranks, as new rules can reuse it."""
    import keras

    from cmclrec_tf import CMCLRec

    path, stamp = folder / MODEL, folder / "model.json"
    stored_digest = json.loads(stamp.read_text())["digest"] if stamp.is_file() else None
    if path.is_file() and stored_digest == digest:
        return keras.saving.load_model(path, custom_objects={"CMCLRec": CMCLRec}), False
    keras.backend.clear_session()
    print(f"run {row.config.seed}: training", file=sys.stderr, flush=True)
    start = time.monotonic()
    checkpoints = folder / "checkpoints"
    model = row.train(dataset, log_dir=folder / "logs", checkpoint_dir=checkpoints / digest)
    assert isinstance(model, CMCLRec)
    stamp.unlink(missing_ok=True)
    model.save(path)
    stamp.write_text(json.dumps({"digest": digest, "seconds": time.monotonic() - start}))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model, True


def ranks_of(model: "CMCLRec", dataset: "PreparedDataset", split: str) -> dict[int, Ranks]:
    """Ranks the last item of a split's warm users by every rule.

    The model sees only a user's newest n events, and leaves only these out of the list, or no item
    with `evaluate.seen_items: keep`.

    Args:
        model: `CMCLRec`.
        dataset: `PreparedDataset`.
        split: `train`, `val` or `test`.

    Returns:
        {n: int32 [rules, users]} for each n of EVENTS, with the users who have n events or more in
        the order of the split. Ranks count from 1; 0 means that the item cannot be listed.
    """
    parts: dict[int, list[Ranks]] = {n: [np.zeros((len(RULES), 0), np.int32)] for n in EVENTS}
    dataset = dataset.with_history(model.config.data.max_history)
    for batch in dataset.batches(split, _BATCH):
        warm = ~batch["is_cold"].numpy()
        target = batch["target"].numpy()[warm, 0]
        history = batch["history"].numpy()[warm]
        features = {name: values[warm] for name, values in batch["features"].items()}
        cold = model.cold_states(features)
        for n in EVENTS:
            rows = (history != PAD).sum(axis=1) >= n
            if not rows.any():
                continue
            newest = newest_only(history[rows], n)
            hidden = newest if model.config.evaluate.hides_history else newest[:, :0]
            row_features = {name: values[rows] for name, values in features.items()}
            states = states_of(model, newest, row_features, cold[rows])
            ranks = [_ranks(model.score(x), hidden, target[rows]) for x in states.values()]
            parts[n].append(np.stack(ranks))
    return {n: np.concatenate(parts_of_n, axis=1) for n, parts_of_n in parts.items()}


def newest_only(history: np.ndarray, n: int) -> np.ndarray:
    """Returns history ids [B, L] with only the newest n kept; FULL keeps all."""
    return history if n == FULL else np.where(np.arange(history.shape[1])[::-1] < n, history, PAD)


def states_of(
    model: "CMCLRec", history: "IdsBL", features: "Features", cold: "FloatBD"
) -> dict[str, "FloatBD"]:
    """Returns {rule: states [B, D]} in the order of RULES.

    Args:
        model: `CMCLRec`.
        history: int [B, L], shortened histories.
        features: user features.
        cold: [B, D], the states of the cold path.
    """
    from cmclrec_tf.models import hybrid

    warm = model.warm_states(history)
    states = {WARM: warm, COLD: cold, JOINED: hybrid.joined_states(model, history, features)}
    for share in SHARES:
        states[share_rule(share)] = hybrid.blend(warm, cold, share)
    for count in COUNTS:
        states[count_rule(count)] = hybrid.blend(warm, cold, hybrid.cold_share(history, count))
    return states


def _ranks(scores: "FloatBV", hidden: "IdsBL", target: "IdsB") -> Ranks:
    """Returns the rank of each target, int32 [B]."""
    from cmclrec_tf.layers.masking import MASKED_SCORE
    from cmclrec_tf.models import ranking

    scores = np.asarray(ranking.exclude(scores, hidden))
    target_score = np.take_along_axis(scores, target[:, None], axis=1)
    # Ties count against the item, as in training and evaluation.
    ranks = (~(scores < target_score)).sum(axis=1)
    possible = (target >= FIRST_ID) & (target_score[:, 0] > MASKED_SCORE / 2)
    return np.where(possible, ranks, 0).astype(np.int32)

"""Figure 2 of the paper: compares simulated with real histories, before and after stage 1."""

import dataclasses
import json
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import whole_file, write_npz
from cmclrec_tf.schema import PAD, TEST
from experiments import run_folders
from experiments.figure2_report import STATES, Vectors, write
from experiments.run_datasets import datasets_of_runs
from experiments.run_folders import Folder
from experiments.run_table import Outcome, check_histories, config_from_options, load_run
from experiments.table_rows import Row, parse_rows
from pipeline.storage.folders import make_folder

if TYPE_CHECKING:
    import pathlib

    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models import CrossModalMapper

VECTORS = "vectors.npz"
_BATCH = 256


def run(
    dataset: str,
    *,
    model: str = "default",
    users: int = 1000,
    runs: int = 5,
    data_dir: Folder | None = None,
    preset: str | None = None,
    config_path: Folder | None = None,
    root: Folder = "var",
    out: Folder | None = None,
    prepared: str | None = None,
    command: str | None = None,
) -> Outcome:
    """Trains stage 1 on every run, and compares the mapper's vectors of test users around it.

    Args:
        dataset, runs, data_dir, preset, config_path, root, out, prepared: the options of
            `cmclrec experiment`, see `experiments/cli.py`.
        model: name of a CMCLRec row; its stage 1 is trained.
        users: most users of each segment, the first of the test split.
        command: the command line, printed below the numbers.

    Raises:
        InputError: a wrong dataset, model, config or folder, or a run with fewer than two users in
            a segment.
    """
    datasets, name = datasets_of_runs(dataset, data_dir, root, prepared, runs)
    (row,) = parse_rows([model], name, config_from_options(preset, config_path))
    _check(row)
    out = run_folders.results_folder(out, root, name)
    make_folder(out, "Give another folder by --out.")
    check_histories(datasets, runs, [row])
    with run_folders.lock(out):
        vectors, versions, trained = [], [], 0
        for number in range(runs):
            run_dataset, (run_row,) = load_run(datasets, number, [_stage_1(row)])
            folder = run_folders.run_folder(out, number, f"figure2-{model}")
            all_vectors, run_versions, is_new = _vectors_of_run(run_row, run_dataset, folder)
            vectors.append(_first_users(all_vectors, users, run_dataset.name))
            versions.append(run_versions)
            trained += is_new
        page = write(out, name, row, vectors, versions, command)
    return Outcome(page.text, page.files, trained)


def _check(row: Row) -> None:
    mapper = row.config.model.mapper if row.is_cmclrec else None
    if mapper not in ("full", "NoDA"):
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec with its cross-modal module makes simulated histories from features",
            "Give a preset, such as default, by --model.",
        )
    if not row.config.data.has_cold_users:
        raise InputError(
            f"data.split={row.config.data.split!r}",
            "no user is cold in this split",
            "Give a config with another data.split.",
        )


def _stage_1(row: Row) -> Row:
    """Returns the row with defaults for all settings that stage 1 does not read."""
    unread = {name: getattr(Config(), name) for name in ("finetune", "baseline", "evaluate")}
    return dataclasses.replace(row, config=dataclasses.replace(row.config, **unread))


def _vectors_of_run(
    row: Row, dataset: "PreparedDataset", folder: "pathlib.Path"
) -> tuple[Vectors, run_folders.Versions, bool]:
    """Returns the vectors of a run, the library versions, and whether the run was trained now."""
    digest = run_folders.digest(row.settings(), dataset)
    path = folder / VECTORS
    if path.is_file():
        with np.load(path) as stored:
            facts = json.loads(str(stored["about"]))
            if facts["digest"] == digest:
                vectors = {name: stored[name] for name in stored.files if name != "about"}
                return vectors, facts["versions"], False
    checkpoints = folder / "checkpoints"
    vectors = _train(row, dataset, folder / "logs", checkpoints / digest)
    facts = {"digest": digest, "versions": run_folders.library_versions()}
    with whole_file(path) as new, new.open("wb") as file:
        write_npz(file, {"about": np.array(json.dumps(facts)), **vectors})
    shutil.rmtree(checkpoints, ignore_errors=True)
    return vectors, facts["versions"], True


def _train(
    row: Row, dataset: "PreparedDataset", logs: "pathlib.Path", checkpoints: "pathlib.Path"
) -> Vectors:
    """Trains stage 1 and returns the vectors of both states, {'before/warm': [n, D], ...}."""
    import keras

    from cmclrec_tf import training

    config, dataset = training.checked(dataset, row.config)
    untrained = dataclasses.replace(config.pretrain, epochs=0)
    before = training.pretrain(dataset, dataclasses.replace(config, pretrain=untrained))
    states = [user_vectors(before.mapper, dataset)]
    keras.backend.clear_session()
    print(f"run {config.seed}: stage 1", file=sys.stderr, flush=True)
    after = training.pretrain(dataset, config, logs, checkpoints)
    states.append(user_vectors(after.mapper, dataset))
    pairs = zip(STATES, states, strict=True)
    return {f"{state}/{name}": v for state, vectors in pairs for name, v in vectors.items()}


def user_vectors(mapper: "CrossModalMapper", dataset: "PreparedDataset") -> Vectors:
    """Returns the vectors of the test users.

    Args:
        mapper: `CrossModalMapper` with the cross-modal module.
        dataset: `PreparedDataset` with the mapper's history length.

    Returns:
        float32 [n, D] or [n, Z] under these names:
            warm: means of T_s over its newest positions, of warm users.
            cold: the same of T_s', of cold users.
            own: the same of T_s', of warm users.
            codes_s: p_s of warm users, Eq. (7).
            codes_f: p_f of cold users, Eq. (7).
    """
    from cmclrec_tf.layers.masking import newest_positions
    from cmclrec_tf.models.pretrain import masked_mean

    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("warm", "cold", "own", "codes_s", "codes_f")
    }
    for batch in dataset.batches(TEST, _BATCH):
        cold = np.asarray(batch["is_cold"])
        mask = batch["history"] != PAD
        t_s, t_f, simulated = mapper(batch, training=False)
        real_means = masked_mean(
            newest_positions(t_s, mapper.count), newest_positions(mask, mapper.count)
        )
        simulated_means = np.asarray(simulated).mean(axis=1)
        parts["warm"].append(np.asarray(real_means)[~cold])
        parts["own"].append(simulated_means[~cold])
        parts["cold"].append(simulated_means[cold])
        parts["codes_s"].append(np.asarray(mapper.auto_s.encode(t_s, mask))[~cold])
        parts["codes_f"].append(np.asarray(mapper.auto_f.encode(t_f))[cold])
    return {name: np.concatenate(batches).astype(np.float32) for name, batches in parts.items()}


def _first_users(vectors: Vectors, users: int, dataset: str) -> Vectors:
    """Cuts the vectors to the first users, equally many of each segment."""
    warm, cold = (len(vectors[f"{STATES[0]}/{segment}"]) for segment in ("warm", "cold"))
    n = min(users, warm, cold)
    if n < 2:
        raise InputError(
            f"{warm} warm and {cold} cold users in the test split of {dataset}",
            "the figure compares two sets of at least 2 users each",
            "Prepare it with a larger data.test_share.",
        )
    return {name: rows[:n] for name, rows in vectors.items()}

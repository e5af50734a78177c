"""Figure 2 of the paper: simulated histories beside real ones, before and after stage 1."""

import dataclasses
import json
import shutil
import sys

import numpy as np

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import PAD, TEST
from experiments import store
from experiments.figure2_report import STATES, write
from experiments.prepared import source
from experiments.quality import Done, drawn, given
from experiments.table_rows import rows
from pipeline.storage.folders import make_folder

VECTORS = "vectors.npz"
_BATCH = 256


def run(
    dataset,
    *,
    model="default",
    users=1000,
    runs=5,
    data_dir=None,
    preset=None,
    config_path=None,
    root="var",
    out=None,
    prepared=None,
    command=None,
):
    """Trains stage 1 on every run, and compares what the mapper makes of test users around it.

    Args:
        model: name of a row of CMCLRec, whose stage 1 it is.
        users: of each segment at most, the first of the test split.
        command: that asked for it, printed with the numbers.
        The others are the options of `cmclrec experiment`, see `experiments/cli.py`.

    Returns:
        `quality.Done`.

    Raises:
        InputError: a wrong dataset, model, config or folder, or a run without two users of each
            segment.
    """
    datasets, name = source(dataset, data_dir, root, prepared, runs)
    (row,) = rows([model], name, given(preset, config_path))
    _check(row)
    out = store.results_folder(out, root, name)
    make_folder(out, "Give another folder by --out.")
    found, versions, trained = [], [], 0
    for number in range(runs):
        read, (own,) = drawn(datasets, number, [_stage_1(row)])
        folder = store.place(out, number, f"figure2-{model}")
        vectors, made_with, new = _kept(own, read, folder)
        found.append(_cut(vectors, users, read.name))
        versions.append(made_with)
        trained += new
    done = write(out, name, row, found, versions, command)
    return Done(done.text, done.files, trained)


def _check(row):
    mapper = row.config.model.mapper if row.is_cmclrec else None
    if mapper not in ("full", "NoDA"):
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec with its cross-modal module brings the two kinds of history together",
            "Give a preset, such as default, by --model.",
        )
    if row.config.data.split != "users":
        raise InputError(
            f"data.split={row.config.data.split!r}",
            "nobody is cold in it",
            "Give a config with data.split: users.",
        )


def _stage_1(row):
    """The row with the defaults of everything that stage 1 does not read."""
    plain = {name: getattr(Config(), name) for name in ("finetune", "baseline", "evaluate")}
    return dataclasses.replace(row, config=dataclasses.replace(row.config, **plain))


def _kept(row, dataset, folder):
    """What a run leaves, {'before/warm': [n, D], ...}, versions, and whether it was trained now."""
    digest = store.digest(row.settings(), dataset)
    path = folder / VECTORS
    if path.is_file():
        with np.load(path) as stored:
            about = json.loads(str(stored["about"]))
            if about["digest"] == digest:
                vectors = {name: stored[name] for name in stored.files if name != "about"}
                return vectors, about["versions"], False
    checkpoints = folder / "checkpoints"
    vectors = _stages(row, dataset, folder / "logs", checkpoints / digest)
    about = {"digest": digest, "versions": store.versions()}
    aside = path.with_name(f".{VECTORS}")
    np.savez(aside, about=np.array(json.dumps(about)), **vectors)
    aside.rename(path)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return vectors, about["versions"], True


def _stages(row, dataset, logs, checkpoints):
    import keras

    from cmclrec_tf import training

    config, dataset = training.checked(dataset, row.config)
    untrained = dataclasses.replace(config.pretrain, epochs=0)
    before = training.pretrain(dataset, dataclasses.replace(config, pretrain=untrained))
    found = [of_users(before.mapper, dataset)]
    keras.backend.clear_session()
    print(f"run {config.seed}: stage 1", file=sys.stderr, flush=True)
    after = training.pretrain(dataset, config, logs, checkpoints)
    found.append(of_users(after.mapper, dataset))
    stages = zip(STATES, found, strict=True)
    return {f"{state}/{name}": v for state, of in stages for name, v in of.items()}


def of_users(mapper, dataset):
    """Vectors of the test users.

    Args:
        mapper: `CrossModalMapper` with the cross-modal module.
        dataset: `PreparedDataset`, read with the mapper's history length.

    Returns:
        {name: float32 [n, D or Z]}: `warm` and `cold`, the means of T_s of warm and of T_s' of cold
        users over their newest positions; `own`, that of T_s' of the warm ones; `codes_s` and
        `codes_f`, p_s of the warm and p_f of the cold ones, Eq. (7).
    """
    from cmclrec_tf.layers.masking import newest_positions
    from cmclrec_tf.models.pretrain import masked_mean

    positions = mapper.config.simulated_positions(mapper.length)
    parts = {name: [] for name in ("warm", "cold", "own", "codes_s", "codes_f")}
    for batch in dataset.batches(TEST, _BATCH):
        cold = np.asarray(batch["is_cold"])
        real = batch["history"] != PAD
        t_s, t_f, simulated = mapper(batch, training=False)
        of_simulated = np.asarray(newest_positions(simulated, positions)).mean(axis=1)
        of_real = np.asarray(
            masked_mean(newest_positions(t_s, positions), newest_positions(real, positions))
        )
        parts["warm"].append(of_real[~cold])
        parts["own"].append(of_simulated[~cold])
        parts["cold"].append(of_simulated[cold])
        parts["codes_s"].append(np.asarray(mapper.auto_s.encode(t_s, real))[~cold])
        parts["codes_f"].append(np.asarray(mapper.auto_f.encode(t_f))[cold])
    return {name: np.concatenate(found).astype(np.float32) for name, found in parts.items()}


def _cut(vectors, users, dataset):
    """The vectors of the first users, as many of one segment as of the other."""
    warm, cold = (len(vectors[f"{STATES[0]}/{segment}"]) for segment in ("warm", "cold"))
    n = min(users, warm, cold)
    if n < 2:
        raise InputError(
            f"{warm} warm and {cold} cold users in the test split of {dataset}",
            "two sets are compared, so each needs at least 2",
            "Prepare it with a larger data.test_share.",
        )
    return {name: found[:n] for name, found in vectors.items()}

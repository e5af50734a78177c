"""Figure 2 of the paper: simulated histories beside real ones, before and after stage 1."""

import dataclasses
import shutil
import sys

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, TEST, WARM
from experiments import store
from experiments.figure2_report import write
from experiments.prepared import label, source
from experiments.quality import Done, drawn, given
from experiments.rows import rows

VECTORS = "vectors.npz"
STATES = ("before", "after")
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
    name = label(name, row.config.data)
    out = store.results_folder(out, root, name)
    found, trained = [], 0
    for number in range(runs):
        read, (own,) = drawn(datasets, number, [row])
        vectors, new = _vectors(own, read, store.place(out, number, f"figure2-{model}"), users)
        found.append(vectors)
        trained += new
    done = write(out, name, row, users, found, command)
    return Done(done.text, done.files, trained)


def _check(row):
    mapper = row.config.model.mapper if row.is_cmclrec else None
    if mapper not in ("full", "NoDA"):
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec with its cross-modal module brings the two kinds of history together",
            "Give a preset, such as default, by --model.",
        )


def _vectors(row, dataset, folder, users):
    """What a run leaves, {'before/warm': [n, D], ...}, and whether it was trained now."""
    about = {**row.settings(), "users": users}
    # Of stage 2 nothing is trained here.
    about["config"] = {k: v for k, v in about["config"].items() if k != "finetune"}
    digest = store.digest(about, dataset)
    path = folder / VECTORS
    if path.is_file():
        with np.load(path) as stored:
            if stored["digest"] == digest:
                return {name: stored[name] for name in stored.files if name != "digest"}, False
    checkpoints = folder / "checkpoints"
    found = _stages(row, dataset, users, folder / "logs", checkpoints / digest)
    aside = path.with_name(f".{VECTORS}")
    np.savez(aside, digest=digest, **found)
    aside.rename(path)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return found, True


def _stages(row, dataset, users, logs, checkpoints):
    import keras

    from cmclrec_tf import training

    config, dataset = training.checked(dataset, row.config)
    untrained = dataclasses.replace(config.pretrain, epochs=0)
    before = training.pretrain(dataset, dataclasses.replace(config, pretrain=untrained))
    found = _of_users(before.mapper, dataset, users)
    keras.backend.clear_session()
    seed = config.seed
    print(f"run {seed}: stage 1", file=sys.stderr, flush=True)
    after = training.pretrain(dataset, config, logs, checkpoints)
    stages = zip(STATES, (found, _of_users(after.mapper, dataset, users)), strict=True)
    return {f"{state}/{name}": v for state, of in stages for name, v in of.items()}


def _of_users(mapper, dataset, users):
    """Vectors of test users, as many of one segment as of the other.

    Returns:
        {name: float32 [n, D or Z]}: `warm` and `cold`, the means of T_s of warm and of T_s' of cold
        users over their newest positions; `own`, that of T_s' of the warm ones; `codes_s` and
        `codes_f`, p_s of the warm and p_f of the cold ones, Eq. (7).
    """
    from cmclrec_tf.models.cross_modal import newest
    from cmclrec_tf.models.pretrain import masked_mean
    from cmclrec_tf.schema import PAD

    positions = min(mapper.config.simulated or mapper.length, mapper.length)
    parts = {name: [] for name in ("warm", "cold", "own", "codes_s", "codes_f")}
    for batch in dataset.batches(TEST, _BATCH):
        cold = np.asarray(batch["is_cold"])
        real = batch["history"] != PAD
        t_s, t_f, simulated = mapper(batch, training=False)
        whole = newest(np.ones(simulated.shape[:2], bool), positions)
        of_simulated = np.asarray(masked_mean(newest(simulated, positions), whole))
        of_real = np.asarray(masked_mean(newest(t_s, positions), newest(real, positions)))
        parts["warm"].append(of_real[~cold])
        parts["own"].append(of_simulated[~cold])
        parts["cold"].append(of_simulated[cold])
        parts["codes_s"].append(np.asarray(mapper.auto_s.encode(t_s, real))[~cold])
        parts["codes_f"].append(np.asarray(mapper.auto_f.encode(t_f))[cold])
    joined = {name: np.concatenate(found).astype(np.float32) for name, found in parts.items()}
    n = min(users, len(joined["warm"]), len(joined["cold"]))
    if n < 2:
        raise InputError(
            f"{len(joined['warm'])} {WARM} and {len(joined['cold'])} {COLD} users in the test "
            f"split of {dataset.name}",
            "two sets are compared, so each needs at least 2",
            "Prepare it with a larger data.test_share.",
        )
    return {name: found[:n] for name, found in joined.items()}

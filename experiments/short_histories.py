"""Users with a few events: the warm way, the cold one and what lies between, by their number."""

import json
import shutil
import sys
import time

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, PAD, TEST, VAL
from experiments import store
from experiments.prepared import label, source
from experiments.quality import Done, drawn, given
from experiments.short_histories_report import (
    COLD,
    COUNTS,
    EVENTS,
    FULL,
    JOINED,
    RULES,
    SHARES,
    WARM,
    count_rule,
    share_rule,
    write,
)
from experiments.table_rows import rows
from pipeline.storage.folders import make_folder

MODEL, RANKS = "model.keras", "ranks.npz"
_BATCH = 256


def run(
    dataset,
    *,
    model="default",
    runs=5,
    data_dir=None,
    preset=None,
    config_path=None,
    root="var",
    out=None,
    prepared=None,
    command=None,
):
    """Trains a row of CMCLRec on every run, and asks every rule about cut histories.

    Args:
        model: name of a row of CMCLRec.
        command: that asked for it, printed with the numbers.
        The others are the options of `cmclrec experiment`, see `experiments/cli.py`.

    Returns:
        `quality.Done`.

    Raises:
        InputError: a wrong dataset, model, config or folder.
    """
    datasets, name = source(dataset, data_dir, root, prepared, runs)
    (row,) = rows([model], name, given(preset, config_path))
    if not row.is_cmclrec:
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec has a warm and a cold way",
            "Give a preset, such as default, by --model.",
        )
    name = label(name, row.config.data)
    out = store.results_folder(out, root, name)
    make_folder(out, "Give another folder by --out.")
    found, versions, trained = [], [], 0
    for number in range(runs):
        read, (own,) = drawn(datasets, number, [row])
        ranks, about, new = _kept(own, read, store.place(out, number, f"short-{row.name}"))
        found.append(ranks)
        versions.append(about["versions"])
        trained += new
    done = write(out, name, row, found, versions, command)
    return Done(done.text, done.files, trained)


def _kept(row, dataset, folder):
    """What a run leaves: {'test/3': ranks [rules, users], ...}, about it, and whether it is new."""
    about = {"digest": store.digest(row.settings(), dataset), "rules": RULES, "events": EVENTS}
    about = json.loads(json.dumps(about))
    path = folder / RANKS
    if path.is_file():
        with np.load(path) as stored:
            kept = json.loads(str(stored["about"]))
            if about.items() <= kept.items():
                return {n: stored[n] for n in stored.files if n != "about"}, kept, False
    folder.mkdir(parents=True, exist_ok=True)
    model, new = _model(row, dataset, folder, about["digest"])
    ranks = {
        f"{split}/{n}": found
        for split in (VAL, TEST)
        for n, found in ranks_of(model, dataset, split).items()
    }
    about["versions"] = store.versions()
    aside = path.with_name(f".{RANKS}")
    np.savez_compressed(aside, about=np.array(json.dumps(about)), **ranks)
    aside.rename(path)
    return ranks, about, new


def _model(row, dataset, folder, digest):
    """The trained model, kept beside the ranks: other rules need no other training."""
    import keras

    from cmclrec_tf import CMCLRec

    path, stamp = folder / MODEL, folder / "model.json"
    known = json.loads(stamp.read_text())["digest"] if stamp.is_file() else None
    if path.is_file() and known == digest:
        return keras.saving.load_model(path, custom_objects={"CMCLRec": CMCLRec}), False
    keras.backend.clear_session()
    print(f"run {row.config.seed}: training", file=sys.stderr, flush=True)
    start = time.monotonic()
    checkpoints = folder / "checkpoints"
    model = row.train(dataset, log_dir=folder / "logs", checkpoint_dir=checkpoints / digest)
    stamp.unlink(missing_ok=True)
    model.save(path)
    stamp.write_text(json.dumps({"digest": digest, "seconds": time.monotonic() - start}))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model, True


def ranks_of(model, dataset, split):
    """Where the last item comes in the lists of a split's warm users, by every rule.

    The model is told of a user's newest n events and no other, and leaves these out of the list.

    Args:
        model: `CMCLRec`.
        dataset: `PreparedDataset`, read with the model's history length.

    Returns:
        {n: int32 [rules, users]} for n of EVENTS: from 1, 0 where the item cannot be listed; of the
        users with n events at least, in the order of the split.
    """
    found = {n: [] for n in EVENTS}
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
            cut = newest_only(history[rows], n)
            own = {name: values[rows] for name, values in features.items()}
            states = states_of(model, cut, own, cold[rows])
            ranks = [_ranks(model.score(x), cut, target[rows]) for x in states.values()]
            found[n].append(np.stack(ranks))
    empty = np.zeros((len(RULES), 0), np.int32)
    return {n: np.concatenate([empty, *parts], axis=1) for n, parts in found.items()}


def newest_only(history, n):
    """history ids [B, L] with all but the newest n padded; with FULL as it is."""
    return history if n == FULL else np.where(np.arange(history.shape[1])[::-1] < n, history, PAD)


def states_of(model, history, features, cold):
    """{rule: states [B, D]}, in the order of RULES; `cold` are those of the cold way."""
    from cmclrec_tf.models import hybrid

    warm = model.warm_states(history)
    found = {WARM: warm, COLD: cold, JOINED: hybrid.joined_states(model, history, features)}
    for share in SHARES:
        found[share_rule(share)] = hybrid.blend(warm, cold, share)
    for count in COUNTS:
        found[count_rule(count)] = hybrid.blend(warm, cold, hybrid.cold_share(history, count))
    return found


def _ranks(scores, seen, target):
    from cmclrec_tf.layers.masking import MASKED_SCORE
    from cmclrec_tf.models import ranking

    scores = np.asarray(ranking.exclude(scores, seen))
    own = np.take_along_axis(scores, target[:, None], axis=1)
    # Ties count against the item, as everywhere.
    ranks = (~(scores < own)).sum(axis=1)
    possible = (target >= FIRST_ID) & (own[:, 0] > MASKED_SCORE / 2)
    return np.where(possible, ranks, 0).astype(np.int32)

"""Training: examples/s beside RecBole's SASRec, and the share of the machine's matrix products.

python -m benchmarks.training_speed
"""

import json
import pathlib
import statistics
import subprocess
import tempfile
import time

from benchmarks import performance_table, synthetic
from benchmarks.performance_table import Row

WIDTH, BLOCKS, HEADS, BATCH, DROPOUT = 64, 2, 2, 128, 0.2
# As RecBole's: of the last position, over every item, and without an average of the weights.
_LAST = {"model.positions": "last", "finetune.softmax": "full"}
ALONE = {**_LAST, "finetune.ema": 0.0}
_RECBOLE = pathlib.Path(".venv-recbole/bin/python")
_SETTINGS = {
    "hidden_size": WIDTH,
    "inner_size": 2 * WIDTH,
    "n_layers": BLOCKS,
    "n_heads": HEADS,
    "hidden_dropout_prob": DROPOUT,
    "attn_dropout_prob": DROPOUT,
    "train_batch_size": BATCH,
    "MAX_ITEM_LIST_LENGTH": synthetic.LENGTH,
    "ITEM_LIST_LENGTH_FIELD": "item_length",
}


def measure(quick):
    """Rows for the backbone alone and for stage 2."""
    import tensorflow as tf

    from benchmarks.machine import matmul_gflops
    from cmclrec_tf.models import CMCLRec, PlainRecommender
    from cmclrec_tf.training import averaged_adam, decay_feature_side

    users, epochs = (512, 2) if quick else (3840, 4)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        dataset = synthetic.prepared(folder / "prepared", synthetic.histories(users))
        theirs = _recbole(folder, users, epochs)
        plain, ours = (PlainRecommender, averaged_adam), (CMCLRec, decay_feature_side)
        alone = lambda: _fitted(*plain, dataset, ALONE, epochs)
        same = users / alone()
        stage2 = users / _fitted(*ours, dataset, _LAST, epochs)
        usual = users / _fitted(*ours, dataset, {}, epochs)
        half = None
        if tf.config.list_physical_devices("GPU"):
            half = users / _in_bfloat16(alone)
    beside = "RecBole not installed: make .venv-recbole/.ready"
    if theirs:
        theirs = users / theirs
        beside = f"RecBole 1.2.1 SASRec {theirs:,.0f}/s"
    ratio = lambda ours: ours / theirs if theirs else None
    shape = (
        f"D {WIDTH}, L {synthetic.LENGTH}, B {BATCH}, V {synthetic.ITEMS:,}, "
        "last position, full softmax"
    )
    yield Row(
        "training, SASRec alone: examples/s against RecBole's",
        ratio(same),
        "x",
        at_least=1.5,
        detail=f"{same:,.0f}/s; {beside}; {shape}",
    )
    yield Row(
        "training, stage 2 of CMCLRec: examples/s against RecBole's plain SASRec",
        ratio(stage2),
        "x",
        at_least=0.8,
        detail=f"{stage2:,.0f}/s; {beside}",
    )
    yield Row(
        "training, stage 2 as `default` is: next items learned/s against RecBole's",
        ratio(usual * synthetic.LENGTH),
        "x",
        detail=f"{usual:,.0f} users/s, {synthetic.LENGTH} next items each, sampled softmax; "
        f"{beside}",
    )
    rate = matmul_gflops()
    own = same * flops_of_an_example() / 1e9
    yield Row(
        "training, SASRec alone: share of the matrix product rate",
        own / rate,
        "",
        at_least=0.4,
        detail=f"{own:.0f} of {rate:.0f} GFLOP/s",
    )
    what = "training, SASRec alone in bfloat16 on a GPU: share of the matrix product rate"
    if half is None:
        yield Row(what, None, "", detail="no GPU here")
        return
    own, rate = half * flops_of_an_example() / 1e9, matmul_gflops(8192, dtype="bfloat16")
    detail = f"{half:,.0f}/s, float32 {same:,.0f}/s; {own:,.0f} of {rate:,.0f} GFLOP/s"
    yield Row(what, own / rate, "", detail=detail)


def flops_of_an_example():
    """Of a step's matrix products: forward, and twice as many backward.

    Keys and values are made of every position; in the last block the newest alone asks.
    """
    asked = [synthetic.LENGTH] * (BLOCKS - 1) + [1]
    projections = sum((2 * synthetic.LENGTH + (1 + 1 + 2 + 2) * n) * 2 * WIDTH**2 for n in asked)
    attention = sum(2 * 2 * n * synthetic.LENGTH * WIDTH for n in asked)
    return 3 * (projections + attention + 2 * synthetic.ITEMS * WIDTH)


def _in_bfloat16(fitted):
    import keras

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return fitted()
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _fitted(make_model, make_optimizer, dataset, changes, epochs):
    """Median seconds of an epoch, the first left out: it traces the step."""
    import keras

    model = compiled(make_model, make_optimizer, dataset, changes)
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.began)

    fit(model, dataset, epochs, Clock())
    return statistics.median(seconds[1:])


def compiled(make_model, make_optimizer, dataset, changes):
    """A model of the shape that is compared, ready for `fit`."""
    from cmclrec_tf import Config

    model_of = {
        "model.width": WIDTH,
        "model.blocks": BLOCKS,
        "model.heads": HEADS,
        "model.dropout": DROPOUT,
        "finetune.batch_size": BATCH,
        "data.max_history": synthetic.LENGTH,
    }
    config = Config().changed({**model_of, **changes})
    model = make_model(dataset.schema, config)
    model(next(iter(dataset.batches("train", BATCH, shuffle=False))))
    model.compile(make_optimizer(model, config.finetune))
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, dataset, epochs, *callbacks) -> None:
    """Trains on the batches that training reads."""
    steps, stream = dataset.steps("train", BATCH), dataset.stream("train", BATCH)
    model.fit(stream, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=callbacks)


def _recbole(folder, users, epochs):
    """Median seconds of RecBole's epoch on the same histories; None where it is not installed."""
    if not _RECBOLE.exists():
        return None
    own = folder / "benchmark"
    own.mkdir()
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"
    rows = synthetic.histories(users)
    lines = [f"u{n}\t{' '.join(map(str, row[:-1]))}\t{row[-1]}" for n, row in enumerate(rows)]
    for split in ("train", "valid", "test"):
        taken = lines if split == "train" else lines[:64]
        (own / f"benchmark.{split}.inter").write_text("\n".join([header, *taken, ""]))
    script = pathlib.Path(__file__).with_name("recbole_sasrec.py")
    command = [_RECBOLE.absolute(), script, folder, json.dumps(_SETTINGS), "--epochs", epochs]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"RecBole failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["users"] == users, told
    return statistics.median(told["seconds"][1:])


if __name__ == "__main__":
    performance_table.main(measure, __doc__)

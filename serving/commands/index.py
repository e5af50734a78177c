"""`cmclrec index ...`: how much of the exact lists an index finds, and how fast."""

import time

import click

from cmclrec_tf.errors import InputError
from serving.contract import EMBEDDING, USER_EMBEDDING, WARMUP_FILE

_BATCH, _SECONDS = 64, 2.0


@click.command()
@click.argument("folder", type=click.Path())
@click.option(
    "--kind",
    type=click.Choice(["brute_force", "streaming", "scann"]),
    default="scann",
    show_default=True,
)
@click.option(
    "-k", type=click.IntRange(min=1), default=100, show_default=True, help="Items of a list."
)
@click.option(
    "--users",
    type=click.Path(),
    help="TFRecord file (or .gz) of user records; by default the version's warmup requests.",
)
@click.option("--queries", type=click.IntRange(min=1), default=1024, show_default=True)
@click.option(
    "--random-items",
    type=click.IntRange(min=1),
    help="Grow the item table to this many items by noisy copies, for a trial of size.",
)
def index(folder, kind, k, users, queries, random_items) -> None:
    """Build an index over an exported version; print its recall against exact and its speed.

    \b
    cmclrec index var/serving/1 --kind scann -k 100
    """
    from serving import retrieval

    # Before anything else imports TensorFlow.
    retrieval.load_layers(kind)
    from serving.c_api.session import SavedModelSession
    from serving.export import item_table

    table = item_table.read(folder)
    if random_items:
        table = table.grown(random_items)
    records, source = _records(folder, users, queries)
    with SavedModelSession(folder) as session:
        embeddings = _embeddings(session, records)
    start = time.perf_counter()
    built = retrieval.Index.build(folder, kind, k, table=table)
    seconds = time.perf_counter() - start
    exact = retrieval.Index.build(folder, retrieval.BRUTE_FORCE, k, table=table)
    click.echo(f"items {len(table.ids)}, queries {len(records)} ({source})")
    click.echo(f"recall@{k} against exact: {retrieval.recall(built, exact, embeddings):.4f}")
    click.echo(f"build: {seconds:.2f} s")
    for name, searched in ((kind, built), ("exact", exact)):
        click.echo(f"{name}: {_speed(searched, embeddings):.0f} queries/s, {_BATCH} at once")


def _records(folder, users, limit):
    """Serialized user records, and where they are from."""
    import pathlib

    import tensorflow as tf

    path = pathlib.Path(users or pathlib.Path(folder) / WARMUP_FILE)
    if not path.is_file():
        raise InputError(path, "it must be a TFRecord file", "Give one by --users.")
    try:
        packed = "GZIP" if path.suffix == ".gz" else ""
        read = list(tf.data.TFRecordDataset(str(path), packed).as_numpy_iterator())
    except tf.errors.DataLossError as error:
        raise InputError(path, "it must be a TFRecord file", "Write it again.") from error
    if not users:
        from tensorflow_serving.apis import prediction_log_pb2

        logs = (prediction_log_pb2.PredictionLog.FromString(x).predict_log.request for x in read)
        read = [
            record
            for log in logs
            if log.model_spec.signature_name == USER_EMBEDDING
            for record in tf.make_ndarray(log.inputs["examples"])
        ]
        read = list(dict.fromkeys(read))
    if not read:
        raise InputError(path, "it must hold user records", "Give others by --users.")
    return read[:limit], f"{path}" if users else "warmup requests, each once"


def _embeddings(session, records):
    import numpy as np

    parts = [records[i : i + _BATCH] for i in range(0, len(records), _BATCH)]
    run = lambda part: session.run(USER_EMBEDDING, {"examples": np.array(part, object)})
    return np.concatenate([run(part)[EMBEDDING] for part in parts])


def _speed(searched, embeddings):
    """Queries a second, over a few seconds of full batches."""
    import numpy as np

    batch = np.resize(embeddings, (_BATCH, embeddings.shape[1]))
    searched.search(batch)
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < _SECONDS:
        searched.search(batch)
        done += _BATCH
    return done / passed

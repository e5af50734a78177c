"""Implements `cmclrec index`, which measures the recall and the speed of a retrieval index."""

import time
from typing import TYPE_CHECKING, Any

import click

from cmclrec_tf.errors import InputError
from serving.contract import EMBEDDING, USER_EMBEDDING, WARMUP_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving.c_api.session import SavedModelSession
    from serving.retrieval import Index

_BATCH, _SECONDS = 64, 2.0


@click.command()
@click.argument("folder", type=click.Path())
@click.option(
    "--kind",
    type=click.Choice(["brute_force", "streaming", "scann"]),
    default="scann",
    show_default=True,
    help="Kind of index to build.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Number of items per list.",
)
@click.option(
    "--users",
    type=click.Path(),
    help="TFRecord file (or .gz) of user records; by default the version's warmup requests.",
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Largest number of users to search for.",
)
@click.option(
    "--random-items",
    type=click.IntRange(min=1),
    help="Grow the item table to this size with noisy copies, to measure large tables.",
)
def index(
    folder: str, kind: str, k: int, users: str | None, queries: int, random_items: int | None
) -> None:
    """Build an index over an exported version and measure it.

    Prints the recall against exact search, the build time and the queries per second.

    \b
    cmclrec index var/serving/cmclrec/1 --kind scann -k 100
    """
    from serving import retrieval

    # This must come before anything else imports TensorFlow.
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


def _records(folder: str, users: str | None, limit: int) -> tuple[list[bytes], str]:
    """Returns serialized user records and where they come from."""
    import pathlib

    import tensorflow as tf

    path = pathlib.Path(users or pathlib.Path(folder) / WARMUP_FILE)
    if not path.is_file():
        raise InputError(path, "it must be a TFRecord file", "Pass one with --users.")
    try:
        compression = "GZIP" if path.suffix == ".gz" else ""
        records = list(tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator())
    except tf.errors.DataLossError as error:
        raise InputError(path, "it must be a TFRecord file", "Write it again.") from error
    if not users:
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

        logs = (PredictionLog.FromString(record).predict_log.request for record in records)
        records = [
            record
            for log in logs
            if log.model_spec.signature_name == USER_EMBEDDING
            for record in tf.make_ndarray(log.inputs["examples"])
        ]
        records = list(dict.fromkeys(records))
    if not records:
        raise InputError(path, "it must hold user records", "Pass other records with --users.")
    return records[:limit], f"{path}" if users else "warmup requests, each once"


def _embeddings(session: "SavedModelSession", records: list[bytes]) -> "NDArray[Any]":
    import numpy as np

    parts = [records[i : i + _BATCH] for i in range(0, len(records), _BATCH)]
    run = lambda part: session.run(USER_EMBEDDING, {"examples": np.array(part, object)})
    return np.concatenate([run(part)[EMBEDDING] for part in parts])


def _speed(searched: "Index", embeddings: "NDArray[Any]") -> float:
    """Returns queries per second, measured for a few seconds with full batches."""
    import numpy as np

    batch = np.resize(embeddings, (_BATCH, embeddings.shape[1]))
    searched.search(batch)
    start, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < _SECONDS:
        searched.search(batch)
        done += _BATCH
    return done / elapsed

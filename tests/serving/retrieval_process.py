"""Runs the searches that test_retrieval.py checks, in a process with Keras 2 as `tf.keras`."""

import importlib.util
import json
import sys

import numpy as np

from cmclrec_tf.errors import InputError
from serving import retrieval
from serving.export.item_table import ItemTable

KINDS = [kind for kind in retrieval.KINDS if kind != "scann" or importlib.util.find_spec("scann")]


def exact(table, queries, k, exclude):
    """Returns the ids of the k best items, computed with NumPy alone."""
    scores = table.queries(queries) @ table.vectors.T
    for row, items in zip(scores, exclude, strict=True):
        row[[table.ids.index(item) for item in items]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        [table.ids[i] if np.isfinite(s[i]) else "" for i in b]
        for b, s in zip(best, scores, strict=True)
    ]


def error_of(call):
    try:
        call()
    except InputError as error:
        return str(error)
    raise AssertionError("not refused")


def main(folder, path):
    with open(path) as file:
        served = json.load(file)
    results, queries = {}, np.array(served["embeddings"], np.float32)
    for kind in KINDS:
        built = retrieval.Index.build(folder, kind, k=5)
        ids, scores = built.search(queries, served["k"], served["histories"])
        results[kind] = {"ids": ids.tolist(), "scores": scores.tolist()}
        ids, _ = built.search(queries[:1], 3, [built.table.ids])
        results[kind]["nothing left"] = ids.tolist()

    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    table = ItemTable(tuple(f"r{i}" for i in range(3000)), vectors)
    embeddings = rng.standard_normal((64, 16)).astype(np.float32)
    none = [[]] * 64
    best = exact(table, embeddings, 20, none)
    excluded = [row[:7] + ["unknown"] for row in best]
    rest = exact(table, embeddings, 20, [row[:7] for row in best])
    indexes = {k: retrieval.Index.build(None, k, 20, table=table) for k in KINDS}
    random = {
        "exact": best,
        "rest": rest,
        "lists": {k: x.search(embeddings)[0].tolist() for k, x in indexes.items()},
        "excluded": {
            k: x.search(embeddings, exclude=excluded)[0].tolist() for k, x in indexes.items()
        },
        "recall": retrieval.recall(indexes[KINDS[-1]], indexes["brute_force"], embeddings),
    }
    index = indexes["brute_force"]
    errors = {
        "width": error_of(lambda: index.search(embeddings[:, :3])),
        "lists": error_of(lambda: index.search(embeddings, exclude=[[]])),
        "k": error_of(lambda: index.search(embeddings, 0)),
        "kind": error_of(lambda: retrieval.Index.build(folder, "tree")),
        "folder": error_of(lambda: retrieval.Index.build(f"{folder}-none")),
    }
    print(json.dumps({"served": results, "random": random, "errors": errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])

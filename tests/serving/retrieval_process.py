"""What test_retrieval.py checks, in a process of its own that starts with Keras 2 as `tf.keras`."""

import json
import sys

import numpy as np

from cmclrec_tf.errors import InputError
from serving import retrieval
from serving.export.item_table import ItemTable


def exact(table, queries, k, exclude):
    """Ids of the k best items by NumPy alone."""
    scores = table.queries(queries) @ table.vectors.T
    for row, items in zip(scores, exclude, strict=True):
        row[[table.ids.index(item) for item in items]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        [table.ids[i] if np.isfinite(s[i]) else "" for i in b]
        for b, s in zip(best, scores, strict=True)
    ]


def refused(call):
    try:
        call()
    except InputError as error:
        return str(error)
    raise AssertionError("not refused")


def main(folder, given):
    with open(given) as file:
        served = json.load(file)
    found, queries = {}, np.array(served["embeddings"], np.float32)
    for kind in retrieval.KINDS:
        built = retrieval.Index.build(folder, kind, k=5)
        ids, scores = built.search(queries, served["k"], served["histories"])
        found[kind] = {"ids": ids.tolist(), "scores": scores.tolist()}
        left = built.search(queries[:1], 3, [built.table.ids])
        found[kind]["nothing left"] = left[0].tolist()

    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    table = ItemTable(tuple(f"r{i}" for i in range(3000)), vectors)
    asked = rng.standard_normal((64, 16)).astype(np.float32)
    none = [[]] * 64
    best = exact(table, asked, 20, none)
    gone = [row[:7] + ["unknown"] for row in best]
    rest = exact(table, asked, 20, [row[:7] for row in best])
    indexes = {k: retrieval.Index.build(None, k, 20, table=table) for k in retrieval.KINDS}
    random = {
        "exact": best,
        "rest": rest,
        "found": {k: x.search(asked)[0].tolist() for k, x in indexes.items()},
        "excluded": {k: x.search(asked, exclude=gone)[0].tolist() for k, x in indexes.items()},
        "recall": retrieval.recall(indexes["scann"], indexes["brute_force"], asked),
    }
    index = indexes["brute_force"]
    errors = {
        "width": refused(lambda: index.search(asked[:, :3])),
        "lists": refused(lambda: index.search(asked, exclude=[[]])),
        "k": refused(lambda: index.search(asked, 0)),
        "kind": refused(lambda: retrieval.Index.build(folder, "tree")),
        "folder": refused(lambda: retrieval.Index.build(f"{folder}-none")),
    }
    print(json.dumps({"served": found, "random": random, "errors": errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])

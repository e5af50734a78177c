"""Indexes of TensorFlow Recommenders over the items of an exported model, beside the server.

The library takes Keras 2 only, so TF_USE_LEGACY_KERAS=1 must be set before TensorFlow is imported,
and ScaNN is a custom op, so no index is ever part of a SavedModel that is served. Nothing but
arrays goes in and out.
"""

import dataclasses
import importlib.util
import os
import sys

import numpy as np

from cmclrec_tf.errors import InputError
from serving.export import item_table

BRUTE_FORCE, STREAMING, SCANN = "brute_force", "streaming", "scann"
KINDS = (BRUTE_FORCE, STREAMING, SCANN)
LEGACY = "TF_USE_LEGACY_KERAS"
LOWEST = np.finfo(np.float32).min
_STREAM_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class ScannConfig:
    """How much of the items ScaNN looks at.

    Attributes:
        leaves: parts that the items are divided into; 0: the root of their number.
        search: parts that are looked at for a user; 0: a fifth of them.
        reorder: candidates whose scores are then computed exactly; 0: four lists' worth.
    """

    leaves: int = 0
    search: int = 0
    reorder: int = 0

    def for_items(self, n, k):
        """The numbers for n items and lists of k."""
        leaves = min(self.leaves or max(1, round(n**0.5)), n)
        search = min(self.search or max(1, -(-leaves // 5)), leaves)
        return ScannConfig(leaves, search, min(max(self.reorder or 4 * k, k), n))


class Index:
    """Items to be found by a `user_embedding`; made by `build`."""

    def __init__(self, kind, table, k, searcher):
        self.kind, self.table, self.k = kind, table, k
        self._searcher = searcher
        self._rows = {item: row for row, item in enumerate(table.ids)}

    @classmethod
    def build(cls, folder, kind=BRUTE_FORCE, k=100, scann=None, table=None):
        """Builds an index.

        Args:
            folder: a version that cmclrec exported.
            kind: one of `KINDS`; all but `scann` are exact.
            k: items that a search finds by default.
            scann: `ScannConfig`, for `scann`.
            table: `ItemTable` in the place of the folder's.

        Raises:
            InputError: no such version or kind, the extra `retrieval` is not installed, or
                TensorFlow was imported with Keras 3 in the place of `tf.keras`.
        """
        if kind not in KINDS:
            raise InputError(f"kind {kind!r}", f"kinds are {list(KINDS)}", "Choose one of them.")
        _checked(k)
        layers = load_layers(kind)
        table = table or item_table.read(folder)
        return cls(kind, table, k, _searcher(layers, kind, table, k, scann or ScannConfig()))

    def search(self, embeddings, k=None, exclude=None):
        """The items of the highest scores.

        Args:
            embeddings: float [B, D], what `user_embedding` answers with.
            k: items for each user; that of `build` when None.
            exclude: item ids that must not come back, a sequence for each user, such as the
                history; unknown ones are no matter.

        Returns:
            ids: object [B, k] of strings, best first, "" where no item is left.
            scores: float32 [B, k], the lowest float32 there.

        Raises:
            InputError: embeddings of another width, another number of sequences, or k below 1.
        """
        import tensorflow as tf

        k = self.k if k is None else _checked(k)
        queries = self.table.queries(embeddings)
        gone = self._excluded(exclude, len(queries))
        # As many more are asked for as may fall out again.
        asked = min(k + gone.shape[1], len(self.table.ids))
        scores, rows = (x.numpy() for x in self._searcher.search(queries, tf.constant(asked)))
        # ScaNN that finds fewer than it is asked for fills up with no number.
        usable = np.isfinite(scores) & ~(rows[:, :, None] == gone[:, None, :]).any(axis=2)
        order = np.argsort(~usable, axis=1, kind="stable")[:, :k]
        take = lambda x: np.take_along_axis(x, order, axis=1)
        usable, rows, scores = take(usable), take(rows), take(scores)
        names = np.array([*self.table.ids, ""], object)
        ids = names[np.where(usable, rows, len(names) - 1)]
        scores = np.where(usable, scores, LOWEST).astype(np.float32)
        missing = ((0, 0), (0, k - ids.shape[1]))
        return (
            np.pad(ids, missing, constant_values=""),
            np.pad(scores, missing, constant_values=LOWEST),
        )

    def _excluded(self, exclude, users):
        """Rows of the table that must not come back, int [B, n], -1 where there is none."""
        exclude = [()] * users if exclude is None else list(exclude)
        if len(exclude) != users:
            raise InputError(
                f"{len(exclude)} lists to exclude", f"there are {users} users", "Give one each."
            )
        known = [sorted({self._rows[i] for i in items if i in self._rows}) for items in exclude]
        gone = np.full((users, max(map(len, known), default=0)), -1, np.int32)
        for row, rows in zip(gone, known, strict=True):
            row[: len(rows)] = rows
        return gone


def _checked(k):
    if k < 1:
        raise InputError(f"k={k}", "a list has 1 item or more", "Ask for as many.")
    return k


def load_layers(kind):
    """Imports the library's layers, TensorFlow too; comes before anything that imports it.

    Raises:
        InputError: as `Index.build`.
    """
    needed = ("tensorflow_recommenders", *(["scann"] if kind == SCANN else []))
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"package {name}", "indexes need it", "Install the extra: cmclrec-tf[retrieval]."
            )
    if "tensorflow" not in sys.modules:
        os.environ[LEGACY] = "1"
    elif os.environ.get(LEGACY) not in ("1", "true", "True"):
        raise InputError(
            f"{LEGACY}={os.environ.get(LEGACY, '')}",
            "it must be 1 before TensorFlow is imported",
            "Set it where the process starts, or use `cmclrec index`.",
        )
    from tensorflow_recommenders.layers import factorized_top_k

    return factorized_top_k


def _searcher(layers, kind, table, k, scann):
    """A `tf.Module` with `search(queries [B, D], k) -> scores, rows [B, k]`."""
    import tensorflow as tf

    vectors, rows = tf.constant(table.vectors), tf.range(len(table.ids))
    if kind == STREAMING:
        pairs = tf.data.Dataset.from_tensor_slices((rows, vectors)).batch(_STREAM_BATCH)
        layer = layers.Streaming(k=k).index_from_dataset(pairs)
    elif kind == BRUTE_FORCE:
        layer = layers.BruteForce(k=k).index(vectors, rows)
    else:
        sized = scann.for_items(len(table.ids), k)
        layer = layers.ScaNN(
            k=min(k, len(table.ids)),
            num_leaves=sized.leaves,
            num_leaves_to_search=sized.search,
            num_reordering_candidates=sized.reorder,
        ).index(vectors, rows)

    class Searcher(tf.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, vectors.shape[1]], tf.float32),
                tf.TensorSpec([], tf.int32),
            ]
        )
        def search(self, queries, k):
            return self.layer(queries, k=k)

    return Searcher()


def recall(index, exact, embeddings, k=None):
    """Mean share of the exact lists' items that an index finds.

    Args:
        index, exact: `Index`es of the same items.
        embeddings: float [B, D]. k: items of a list, that of `index` when None.
    """
    k = k or index.k
    found, best = (x.search(embeddings, k)[0] for x in (index, exact))
    shares = [
        len(set(a) & set(b) - {""}) / len(set(b) - {""}) for a, b in zip(found, best, strict=True)
    ]
    return float(np.mean(shares))

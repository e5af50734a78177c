"""Builds indexes of TensorFlow Recommenders over the items of an exported model.

They are for offline jobs and for clients that search with a `user_embedding`. TensorFlow
Recommenders supports only Keras 2, so TF_USE_LEGACY_KERAS=1 must be set before TensorFlow is
imported. ScaNN is a custom op, so no index is ever part of a served SavedModel.
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmclrec_tf.errors import InputError
from serving.contract import LOWEST_SCORE
from serving.export import item_table
from serving.export.item_table import ItemTable

BRUTE_FORCE, STREAMING, SCANN = "brute_force", "streaming", "scann"
KINDS = (BRUTE_FORCE, STREAMING, SCANN)
LEGACY = "TF_USE_LEGACY_KERAS"
_STREAM_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class ScannConfig:
    """How many items ScaNN compares with a user.

    Attributes:
        leaves: number of parts into which the items are divided; 0 means the square root of the
            number of items.
        search: number of parts that are searched for a user; 0 means a fifth of them.
        reorder: number of candidates whose scores are then computed exactly; 0 means 4 k.
    """

    leaves: int = 0
    search: int = 0
    reorder: int = 0

    def for_items(self, n: int, k: int) -> "ScannConfig":
        """Returns the numbers to use for n items and lists of k."""
        leaves = min(self.leaves or max(1, round(n**0.5)), n)
        search = min(self.search or max(1, -(-leaves // 5)), leaves)
        return ScannConfig(leaves, search, min(max(self.reorder or 4 * k, k), n))


class Index:
    """An index that finds the best items for a `user_embedding`; made by `build`."""

    def __init__(self, kind: str, table: ItemTable, k: int, searcher: Any) -> None:
        self.kind, self.table, self.k = kind, table, k
        self._searcher = searcher
        self._rows = {item: row for row, item in enumerate(table.ids)}

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str] | None,
        kind: str = BRUTE_FORCE,
        k: int = 100,
        scann: ScannConfig | None = None,
        table: ItemTable | None = None,
    ) -> "Index":
        """Builds an index.

        Args:
            folder: folder of a version that cmclrec exported; not read if `table` is given.
            kind: one of `KINDS`; all but `scann` are exact.
            k: number of items that a search returns by default.
            scann: settings for the kind `scann`.
            table: item table to use instead of the one in the folder.

        Raises:
            InputError: there is no such version or kind, the extra `retrieval` is not installed, or
                TensorFlow was imported with Keras 3 as `tf.keras`.
        """
        if kind not in KINDS:
            raise InputError(f"kind {kind!r}", f"kinds are {list(KINDS)}", "Choose one of them.")
        _check_length(k)
        layers = load_layers(kind)
        if table is None:
            table = item_table.read(folder or "")
        return cls(kind, table, k, _searcher(layers, kind, table, k, scann or ScannConfig()))

    def search(
        self,
        embeddings: ArrayLike,
        k: int | None = None,
        exclude: Iterable[Iterable[str]] | None = None,
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """Returns the items with the highest scores for each user.

        Args:
            embeddings: float [B, D], the outputs of `user_embedding`.
            k: number of items per user; the number passed to `build` if None.
            exclude: item ids that must not come back, one list per user, such as the history.
                Unknown ids are ignored.

        Returns:
            ids: object array [B, k] of strings, best first; "" where no item is left.
            scores: float32 [B, k]; the lowest float32 where no item is left.

        Raises:
            InputError: the embeddings have another width, the number of lists is another one, or k
                is below 1.
        """
        import tensorflow as tf

        k = self.k if k is None else _check_length(k)
        queries = self.table.queries(embeddings)
        excluded = self._excluded_rows(exclude, len(queries))
        # Search for as many more items as may be excluded afterwards.
        count = min(k + excluded.shape[1], len(self.table.ids))
        scores, rows = (x.numpy() for x in self._searcher.search(queries, tf.constant(count)))
        # ScaNN fills its lists with scores that are not numbers if it finds fewer items.
        usable = np.isfinite(scores) & ~(rows[:, :, None] == excluded[:, None, :]).any(axis=2)
        order = np.argsort(~usable, axis=1, kind="stable")[:, :k]
        take = lambda x: np.take_along_axis(x, order, axis=1)
        usable, rows, scores = take(usable), take(rows), take(scores)
        names = np.array([*self.table.ids, ""], object)
        ids = names[np.where(usable, rows, len(names) - 1)]
        scores = np.where(usable, scores, LOWEST_SCORE).astype(np.float32)
        missing = ((0, 0), (0, k - ids.shape[1]))
        return (
            np.pad(ids, missing, constant_values=""),
            np.pad(scores, missing, constant_values=LOWEST_SCORE),
        )

    def _excluded_rows(
        self, exclude: Iterable[Iterable[str]] | None, users: int
    ) -> NDArray[np.int32]:
        """Returns rows of the table that must not come back, int32 [B, N]; -1 is no row."""
        lists: Sequence[Iterable[str]] = [()] * users if exclude is None else list(exclude)
        if len(lists) != users:
            raise InputError(
                f"{len(lists)} lists to exclude", f"there are {users} users", "Pass one per user."
            )
        known = [sorted({self._rows[i] for i in items if i in self._rows}) for items in lists]
        excluded = np.full((users, max(map(len, known), default=0)), -1, np.int32)
        for row, rows in zip(excluded, known, strict=True):
            row[: len(rows)] = rows
        return excluded


def _check_length(k: int) -> int:
    if k < 1:
        raise InputError(f"k={k}", "a list holds at least one item", "Pass a positive k.")
    return k


def load_layers(kind: str) -> ModuleType:
    """Imports TensorFlow and the layers of TensorFlow Recommenders, and returns the latter.

    Call it before anything else imports TensorFlow.

    Raises:
        InputError: as `Index.build`.
    """
    packages = ("tensorflow_recommenders", *(["scann"] if kind == SCANN else []))
    for name in packages:
        if importlib.util.find_spec(name) is None:
            fix = "Install the extra: cmclrec-tf[retrieval]."
            if name == "scann":
                fix += (
                    f" It brings ScaNN for Python 3.10 and 3.11; elsewhere {BRUTE_FORCE} and "
                    f"{STREAMING} are the kinds."
                )
            raise InputError(f"package {name}", f"indexes of kind {kind} need it", fix)
    if "tensorflow" not in sys.modules:
        os.environ[LEGACY] = "1"
    elif os.environ.get(LEGACY) not in ("1", "true", "True"):
        raise InputError(
            f"{LEGACY}={os.environ.get(LEGACY, '')}",
            "it must be 1 before TensorFlow is imported",
            "Set it where the process starts, or use `cmclrec index`.",
        )
    from tensorflow_recommenders.layers import factorized_top_k

    layers: ModuleType = factorized_top_k
    return layers


def _searcher(layers: ModuleType, kind: str, table: ItemTable, k: int, scann: ScannConfig) -> Any:
    """Returns a `tf.Module` with `search(queries [B, D], k) -> scores, rows [B, k]`."""
    import tensorflow as tf

    vectors, rows = tf.constant(table.vectors), tf.range(len(table.ids))
    if kind == STREAMING:
        pairs = tf.data.Dataset.from_tensor_slices((rows, vectors)).batch(_STREAM_BATCH)
        layer = layers.Streaming(k=k).index_from_dataset(pairs)
    elif kind == BRUTE_FORCE:
        layer = layers.BruteForce(k=k).index(vectors, rows)
    else:
        sizes = scann.for_items(len(table.ids), k)
        layer = layers.ScaNN(
            k=min(k, len(table.ids)),
            num_leaves=sizes.leaves,
            num_leaves_to_search=sizes.search,
            num_reordering_candidates=sizes.reorder,
        ).index(vectors, rows)

    class Searcher(tf.Module):
        def __init__(self) -> None:
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


def recall(index: Index, exact: Index, embeddings: ArrayLike, k: int | None = None) -> float:
    """Returns the mean share of the items in the exact lists that an index finds.

    Args:
        index, exact: indexes of the same items.
        embeddings: float [B, D].
        k: length of the lists; that of `index` if None.
    """
    k = k or index.k
    lists, exact_lists = (x.search(embeddings, k)[0] for x in (index, exact))
    shares = [
        len(set(items) & set(best) - {""}) / len(set(best) - {""})
        for items, best in zip(lists, exact_lists, strict=True)
    ]
    return float(np.mean(shares))

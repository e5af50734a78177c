"""Reads the items of an exported model as vectors, without building the model."""

import dataclasses
import os
import pathlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, ITEMS

# The collection of variables in an export whose columns, side by side, are the item vectors.
COLLECTION = "item_table"


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """The item vectors; the inner products of a user embedding with them are the scores.

    Attributes:
        ids: item ids, in the order of the vocabulary.
        vectors: float32 [N, D], one for each id.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    def queries(self, embeddings: ArrayLike) -> NDArray[np.float32]:
        """Returns user embeddings as float32 [B, D] after checking their shape.

        Raises:
            InputError: the width is not the model's.
        """
        queries = np.asarray(embeddings, np.float32)
        width = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != width:
            raise InputError(
                f"embeddings of the shape {queries.shape}",
                f"the model's are [users, {width}]",
                "Take them from the `user_embedding` of the same version.",
            )
        return queries

    def grown(self, n: int, noise: float = 0.5, seed: int = 0) -> "ItemTable":
        """Returns a table of n items, to measure large tables: adds noisy copies of random rows.

        Args:
            n: number of items; at least the number that the table has.
            noise: standard deviation of the noise, as a share of the table's own.
            seed: seeds the rows and the noise.
        """
        rng = np.random.default_rng(seed)
        rows = self.vectors[rng.integers(0, len(self.ids), max(0, n - len(self.ids)))]
        spread = noise * self.vectors.std(axis=0, dtype=np.float64)
        copies = rows + spread * rng.standard_normal(rows.shape)
        vectors = np.concatenate([self.vectors, copies.astype(np.float32)])
        ids = (*self.ids, *(f"+{number}" for number in range(len(copies))))
        return dataclasses.replace(self, ids=ids, vectors=vectors)


def read(folder: str | os.PathLike[str]) -> ItemTable:
    """Reads the item table of a version that cmclrec exported.

    Args:
        folder: folder of the SavedModel.

    Raises:
        InputError: there is no such folder, or the export holds no item table.
    """
    import tensorflow as tf

    from cmclrec_tf.data import vocabulary

    folder = pathlib.Path(folder)
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            folder,
            "it must be the folder of an exported version",
            "Name one, such as var/serving/cmclrec/1.",
        )
    try:
        checkpoint = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        keys = _keys(checkpoint.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        parts = [checkpoint.get_tensor(key).astype(np.float32) for key in keys]
        vectors = np.concatenate(parts, axis=1)
    except (KeyError, tf.errors.OpError, ValueError, RuntimeError) as error:
        raise InputError(
            folder,
            f"its variables must hold the {COLLECTION} ({error})",
            "Export the model again.",
        ) from error
    ids = tuple(vocabulary.read(str(folder / "assets" / ITEMS)))
    if len(vectors) != len(ids) + FIRST_ID:
        raise InputError(
            f"{folder} with {len(ids)} item ids and {len(vectors) - FIRST_ID} vectors",
            "there must be one vector for each id",
            "Export the model again.",
        )
    return ItemTable(ids, vectors[FIRST_ID:])


def _keys(serialized: bytes) -> list[str]:
    """Returns the checkpoint keys of the collection, from the graph of the export's objects."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    nodes = trackable_object_graph_pb2.TrackableObjectGraph.FromString(serialized).nodes
    (collection,) = (child for child in nodes[0].children if child.local_name == COLLECTION)
    variables = sorted(nodes[collection.node_id].children, key=lambda child: int(child.local_name))
    return [str(nodes[child.node_id].attributes[0].checkpoint_key) for child in variables]

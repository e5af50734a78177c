"""The items of an exported model as vectors, read from its folder without building the model."""

import dataclasses
import pathlib

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import FIRST_ID, ITEMS

# The collection of variables in an export that holds the item embeddings.
TABLE = "item_table"


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """What a user's embedding is multiplied with.

    Attributes:
        ids: of the items, in the order of the vocabulary.
        vectors: float32 [n, D].
    """

    ids: tuple[str, ...]
    vectors: np.ndarray

    def queries(self, embeddings):
        """Checks `user_embedding`s [B, D]; their inner products with the vectors are scores.

        Raises:
            InputError: another width than the model's.
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

    def grown(self, n, noise=0.5, seed=0):
        """A table of n items for trials of size: rows drawn again, with noise.

        Args:
            n: items; no fewer than there are.
            noise: its deviation, as a share of the table's own.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        more = self.vectors[rng.integers(0, len(self.ids), max(0, n - len(self.ids)))]
        spread = noise * self.vectors.std(axis=0, dtype=np.float64)
        more = more + spread * rng.standard_normal(more.shape)
        vectors = np.concatenate([self.vectors, more.astype(np.float32)])
        ids = (*self.ids, *(f"+{number}" for number in range(len(more))))
        return dataclasses.replace(self, ids=ids, vectors=vectors)


def read(folder):
    """The `ItemTable` of a version that cmclrec exported.

    Args:
        folder: the SavedModel.

    Raises:
        InputError: no such folder, or an export without the table.
    """
    import tensorflow as tf

    from cmclrec_tf.data import vocabulary

    folder = pathlib.Path(folder)
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            folder, "it must be the folder of an exported version", "Give one, such as var/.../1."
        )
    try:
        checkpoint = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        key = _key(checkpoint.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        vectors = checkpoint.get_tensor(key).astype(np.float32)
    except (KeyError, tf.errors.OpError, ValueError, RuntimeError) as error:
        raise InputError(
            folder, f"its variables must hold the {TABLE} ({error})", "Export the model again."
        ) from error
    ids = tuple(vocabulary.read(str(folder / "assets" / ITEMS)))
    if len(vectors) != len(ids) + FIRST_ID:
        raise InputError(
            f"{folder} with {len(ids)} item ids and {len(vectors) - FIRST_ID} vectors",
            "there must be one for each",
            "Export the model again.",
        )
    return ItemTable(ids, vectors[FIRST_ID:])


def _key(serialized: bytes) -> str:
    """Returns the checkpoint key of the item embeddings, from the graph of the export's objects."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    nodes = trackable_object_graph_pb2.TrackableObjectGraph.FromString(serialized).nodes
    (collection,) = (child for child in nodes[0].children if child.local_name == TABLE)
    (variable,) = nodes[collection.node_id].children
    return str(nodes[variable.node_id].attributes[0].checkpoint_key)

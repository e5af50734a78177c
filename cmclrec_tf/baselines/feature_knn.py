"""Floor that recommends the items of the train users with the most similar features."""

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, TRAIN
from cmclrec_tf.types import IdsBK, Users

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset


class FeatureKNN:
    """score(u, i) = sum over the K most similar train users t of sim(u, t) [t took i].

    `Neighbours` defines sim. The history is not used, except to leave its items out.

    Args:
        dataset: `PreparedDataset`; only its train split is read.
        events: `all` uses all events of the records, `last` only the last one of each user.
        neighbours: K.
        seed: seeds the order among equally similar users.
        hides_history: whether items of a warm user's history are left out of the list.

    Raises:
        InputError: `events` is neither `all` nor `last`.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> batch = next(iter(data.batches("test", 4)))
        >>> FeatureKNN(data, neighbours=10).recommend(batch, k=5).shape
        TensorShape([4, 5])
    """

    def __init__(
        self,
        dataset: "PreparedDataset",
        events: str = "all",
        neighbours: int = 100,
        seed: int = 0,
        hides_history: bool = True,
    ) -> None:
        if events not in ("all", "last"):
            raise InputError(f"events={events!r}", "it must be `all` or `last`", "Choose one.")
        self.newest_only, self.hides_history = events == "last", hides_history
        self.items, users = dataset.schema.items, dataset.users[TRAIN]
        length, most = dataset.max_history + 1, min(neighbours, users)
        self.neighbours = Neighbours(dataset.schema.features, users, length, most)
        self.neighbours.learn(dataset, seed)

    def recommend(self, batch: Users, k: int) -> IdsBK:
        """Returns ids [B, K], best first."""
        similarity, items = (np.asarray(x) for x in self.neighbours(batch["features"]))
        items = items[:, :, -1:] if self.newest_only else items
        scores = np.zeros((len(items), self.items), np.float32)
        rows = np.broadcast_to(np.arange(len(items))[:, None, None], items.shape)
        weights = np.broadcast_to(similarity[:, :, None], items.shape) * (items >= FIRST_ID)
        np.add.at(scores, (rows, items), weights)
        return ranking.recommend(ops.convert_to_tensor(scores), batch, k, self.hides_history)

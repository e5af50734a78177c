"""What the users with the most similar features took."""

import numpy as np
from keras import ops

from cmclrec_tf.baselines.neighbours import Neighbours
from cmclrec_tf.errors import InputError
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, TRAIN


class FeatureKNN:
    """score(u, i) = sum over the K most similar train users t of sim(u, t) [t took i].

    The history is not looked at, but its items are left out; see `Neighbours` for sim.

    Args:
        dataset: `PreparedDataset`; only its train split is read.
        events: `all` events that the records hold, or the `last` one of each user.
        neighbours: K.
        seed: of the order in which equally similar users are taken.

    Raises:
        InputError: another word for `events`.
    """

    def __init__(self, dataset, events="all", neighbours=100, seed=0):
        if events not in ("all", "last"):
            raise InputError(f"events={events!r}", "it is `all` or `last`", "Choose one.")
        self.newest = 1 if events == "last" else None
        self.items, users = dataset.schema.items, dataset.users[TRAIN]
        length, most = dataset.max_history + 1, min(neighbours, users)
        self.neighbours = Neighbours(dataset.schema.features, users, length, most)
        self.neighbours.learn(dataset, seed)

    def recommend(self, batch, k):
        """batch -> ids [B, K]."""
        similarity, items = (np.asarray(x) for x in self.neighbours(batch["features"]))
        items = items[:, :, -1:] if self.newest else items
        scores = np.zeros((len(items), self.items), np.float32)
        rows = np.broadcast_to(np.arange(len(items))[:, None, None], items.shape)
        weights = np.broadcast_to(similarity[:, :, None], items.shape) * (items >= FIRST_ID)
        np.add.at(scores, (rows, items), weights)
        return ranking.recommended(ops.convert_to_tensor(scores), batch, k)

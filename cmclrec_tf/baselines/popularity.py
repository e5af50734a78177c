"""The floor under every model: the same popular items for everybody."""

import numpy as np
from keras import ops

from cmclrec_tf.errors import InputError
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import TRAIN


class Popularity:
    """Ranks items by how many train users' events they have; items of a history are left out.

    Args:
        dataset: `PreparedDataset`; only its train split is read.
        events: count `all` events that the records hold (the newest max_history and the target),
            or only the `last` one of each user.

    Raises:
        InputError: another word for `events`.
    """

    def __init__(self, dataset, events="all"):
        if events not in ("all", "last"):
            raise InputError(f"events={events!r}", "it is `all` or `last`", "Choose one.")
        counts = np.zeros(dataset.schema.items, np.int64)
        for batch in dataset.batches(TRAIN, 1024, shuffle=False):
            fields = [batch["target"]] if events == "last" else [batch["history"], batch["target"]]
            for ids in fields:
                counts += np.bincount(ids.numpy().ravel(), minlength=len(counts))
        self.scores = counts.astype(np.float32)

    def recommend(self, batch, k):
        """batch -> ids [B, K], most popular first."""
        rows = batch["history"].shape[0]
        return ranking.recommended(
            ops.broadcast_to(self.scores, (rows, len(self.scores))), batch, k
        )
